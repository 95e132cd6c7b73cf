from pathlib import Path

import numpy as np
import pytest

from caafp_app.datasets import DataShape, source_of
from caafp_app.errors import DataError, SettingsError
from caafp_app.settings import DataSettings


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "subject": datasets.Value("string"),
            "signal": datasets.Array2D((4, 2), "float32"),
            "activity": datasets.ClassLabel(names=["sit", "walk"]),
        }
    )
    rows = {
        "subject": ["anna", "bob"] * 5,
        "signal": np.arange(80.0, dtype=np.float32).reshape(10, 4, 2),
        "activity": [0, 1] * 5,
    }
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_one_on_disk_is_read(saved: Path) -> None:
    settings = DataSettings(dataset="hf", data_dir=str(saved))
    source = source_of("hf")
    windows = source.windows(settings)
    assert windows.shape == DataShape((4, 2), ("sit", "walk"))
    assert source.population(settings) == 2
    assert windows.of_user(1).x[0, 0].tolist() == [8.0, 9.0]
    assert set(windows.of_user(1).y.tolist()) == {1}


def test_without_users_it_has_to_be_dealt_out(saved: Path, tmp_path: Path) -> None:
    import datasets

    data = datasets.load_from_disk(str(saved)).remove_columns("subject")
    data.save_to_disk(str(tmp_path / "nobody"))
    settings = DataSettings(dataset="hf", data_dir=str(tmp_path / "nobody"))
    with pytest.raises(SettingsError, match="no column of users"):
        source_of("hf").population(settings)


def test_what_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder"):
        source_of("hf").windows(DataSettings(dataset="hf", data_dir=str(tmp_path / "no")))
    with pytest.raises(SettingsError, match="data-dir"):
        source_of("hf").windows(DataSettings(dataset="hf"))
