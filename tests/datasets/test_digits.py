import numpy as np
import pytest
from sklearn.datasets import load_digits

from caafp_app.datasets import data_shape, describe_client, source_of
from caafp_app.errors import SettingsError
from caafp_app.launch.plan import count_supernodes
from caafp_app.settings import DataSettings, Settings

SOURCE = source_of("digits")


def divided(partition: str, **changes: object) -> DataSettings:
    return DataSettings(dataset="digits", partition=partition, **changes)  # type: ignore[arg-type]


def node(index: int, count: int = 6) -> dict[str, int]:
    return {"partition-id": index, "num-partitions": count}


def test_the_pictures_are_those_of_scikit_learn_between_0_and_1() -> None:
    windows = SOURCE.windows(divided("iid"))
    raw = load_digits()
    np.testing.assert_array_equal(windows.x[..., 0] * 16, raw.images)
    np.testing.assert_array_equal(windows.y, raw.target)
    assert (windows.x.min(), windows.x.max()) == (0, 1)
    assert windows.shape == SOURCE.shape(divided("iid")) == data_shape(divided("iid"))


def test_a_natural_partition_is_refused_with_what_to_do() -> None:
    with pytest.raises(SettingsError, match="expected dirichlet, shards or iid, found 'natural'"):
        describe_client(divided("natural"), node(0))
    with pytest.raises(SettingsError, match="who wrote which picture"):
        count_supernodes(Settings.from_run_config({"dataset": "digits"}), None)
