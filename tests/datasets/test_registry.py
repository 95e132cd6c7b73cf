import pytest

from caafp_app.datasets import SOURCES, source_of
from caafp_app.errors import SettingsError
from caafp_app.settings import DATASETS


def test_the_names_are_those_of_the_setting() -> None:
    assert tuple(SOURCES) == DATASETS
    assert all(source_of(name).name == name for name in DATASETS)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="found 'uci_har'; did you mean 'uci-har'"):
        source_of("uci_har")
    with pytest.raises(SettingsError, match="expected one of synthetic, digits, uci-har"):
        source_of("qqqq")
