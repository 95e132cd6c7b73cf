"""Files as people have them: spellings, spreadsheets, folders and leftovers."""

import gzip
import logging
from pathlib import Path

import numpy as np
import pytest

from caafp_app.datasets import DataShape, source_of
from caafp_app.datasets.folder import read_folder
from caafp_app.datasets.form import read_form
from caafp_app.datasets.resolve import describe_client
from caafp_app.errors import DataError, SettingsError
from caafp_app.settings import DataSettings

SHAPE = DataShape((3, 1), ("null", "None", "NA", "nan"))
LINES = ["label,ax", *(f"{name},{k}" for name in SHAPE.class_names for k in range(3))]
TEXT = "\n".join(LINES) + "\n"
SIT = "label,ax\n" + "sit,1\n" * 3
STATES = DataShape((3, 1), ("sit", "walk"))


def test_labels_of_any_spelling_are_labels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TEXT, encoding="utf-8")
    windows = read_folder(tmp_path, SHAPE)
    assert windows.y.tolist() == [0, 1, 2, 3]
    assert windows.x[1, :, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_text(SIT, encoding=encoding)
    (tmp_path / "dataset.toml").write_text('classes = ["walk", "sit"]\n', encoding=encoding)
    assert read_form(tmp_path).classes == ("walk", "sit")
    assert read_folder(tmp_path, STATES).y.tolist() == [1]


def test_every_file_of_a_folder_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pandas as pd

    (tmp_path / "a.csv").write_text(SIT, encoding="utf-8")
    (tmp_path / "B.CSV").write_text(SIT, encoding="utf-8")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(SIT.encode()))
    (tmp_path / "monday" / "early").mkdir(parents=True)
    (tmp_path / "monday" / "early" / "d.csv").write_text(SIT.replace("sit", "walk"), "utf-8")
    pd.DataFrame({"label": ["walk"] * 3, "ax": [1.0, 2.0, 3.0]}).to_parquet(tmp_path / "e.parquet")
    np.savez(tmp_path / "f.npz", X=np.ones((2, 3, 1)), y=np.array(["walk", "sit"]))
    assert sorted(read_folder(tmp_path, STATES).y.tolist()) == [0, 0, 0, 0, 1, 1, 1]


def test_files_without_a_window_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "good.csv").write_text(SIT, encoding="utf-8")
    (tmp_path / "short.csv").write_text("label,ax\nsit,1\n", encoding="utf-8")
    (tmp_path / "header.csv").write_text("label,ax\n", encoding="utf-8")
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "._good.csv").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert len(read_folder(tmp_path, STATES).y) == 1
    named = ["short.csv", "header.csv", "empty.csv", "._good.csv", "notes.txt"]
    assert [name for name in named if name not in caplog.text] == []


def test_users_and_classes_may_be_strings(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(
        path,
        X=np.arange(24.0).reshape(4, 3, 2),
        y=np.array(["walk", "sit", "walk", "None"]),
        user=np.array(["bob", "anna", "bob", "a/b"]),
    )
    settings = DataSettings(dataset="npz", data_dir=str(path))
    windows = source_of("npz").windows(settings)
    assert windows.class_names == ("None", "sit", "walk")
    labels = [
        describe_client(settings, {"partition-id": k, "num-partitions": 3}).label for k in range(3)
    ]
    assert labels == ["a_b", "anna", "bob"]


class TestHuggingFace:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
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

    def test_one_on_disk_is_read(self, saved: Path) -> None:
        settings = DataSettings(dataset="hf", data_dir=str(saved))
        source = source_of("hf")
        windows = source.windows(settings)
        assert windows.shape == DataShape((4, 2), ("sit", "walk"))
        assert source.population(settings) == 2
        assert windows.of_user(1).x[0, 0].tolist() == [8.0, 9.0]
        assert set(windows.of_user(1).y.tolist()) == {1}

    def test_without_users_it_has_to_be_dealt_out(self, saved: Path, tmp_path: Path) -> None:
        import datasets

        data = datasets.load_from_disk(str(saved)).remove_columns("subject")
        data.save_to_disk(str(tmp_path / "nobody"))
        settings = DataSettings(dataset="hf", data_dir=str(tmp_path / "nobody"))
        with pytest.raises(SettingsError, match="no column of users"):
            source_of("hf").population(settings)

    def test_what_is_none_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="expected a folder"):
            source_of("hf").windows(DataSettings(dataset="hf", data_dir=str(tmp_path / "no")))
        with pytest.raises(SettingsError, match="data-dir"):
            source_of("hf").windows(DataSettings(dataset="hf"))
