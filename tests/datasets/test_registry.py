import pytest

from caafp_app.datasets import DataSource, source_of
from caafp_app.errors import SettingsError
from caafp_app.registry import DATASETS


def test_every_name_has_one_source() -> None:
    sources = [source_of(name) for name in DATASETS.builtin]
    assert all(isinstance(source, DataSource) for source in sources)
    assert len({type(source) for source in sources}) == len(sources)
    assert source_of("synthetic") is sources[0]


@pytest.mark.parametrize("path", ["math:pi", "builtins:dict"])
def test_what_is_no_data_set_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match=r"dataset: expected a subclass of .*DataSource at"):
        source_of(path)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="found 'uci_har'; did you mean 'uci-har'"):
        source_of("uci_har")
    with pytest.raises(SettingsError, match="expected one of synthetic, digits, uci-har"):
        source_of("qqqq")
