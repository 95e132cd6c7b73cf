import gzip
import logging
from pathlib import Path

import numpy as np
import pytest

from caafp_app.datasets import DataShape, source_of
from caafp_app.datasets.folder import read_folder
from caafp_app.datasets.form import read_form
from caafp_app.errors import DataError, SettingsError
from caafp_app.settings import DataSettings

SHAPE = DataShape((3, 2), ("sit", "stand", "walk"))
SIT = "label,ax\n" + "sit,1\n" * 3
STATES = DataShape((3, 1), ("sit", "walk"))


def table(path: Path, windows: list[tuple[str, str]]) -> Path:
    """Write three samples per window; the values count the samples."""
    samples = [f"{window},{label}" for window, label in windows for _ in range(3)]
    lines = [f"{sample},{number}.5,{-number}" for number, sample in enumerate(samples)]
    path.write_text("\n".join(["window,label,ax,ay", *lines]) + "\n")
    return path


def test_a_table_of_samples(tmp_path: Path) -> None:
    windows = read_folder(
        table(tmp_path / "a.csv", [("0", "2"), ("1", "0"), ("w7", "walk")]), SHAPE
    )

    assert windows.x.shape == (3, 3, 2)
    assert windows.x[..., 0].tolist() == [[0.5, 1.5, 2.5], [3.5, 4.5, 5.5], [6.5, 7.5, 8.5]]
    assert windows.x[1, :, 1].tolist() == [-3, -4, -5]
    assert windows.y.tolist() == [2, 0, 2]
    assert windows.shape == SHAPE


@pytest.mark.parametrize(
    "text",
    [
        "label;ax;ay\n0;1,5;2\n",
        "label;ax;ay\n0;1.5;2\n",
        "label\tax\tay\n0\t1.5\t2\n",
        "ax,ay,label\n1.5,2,0\n",
        "Label , ax , ay\n0 , 1.5 , 2\n",
        ",label,ax,ay\n7,0,1.5,2\n",
        "label,ax,ay,\n0,1.5,2,\n",
        "label,ax,ay\n0.0,1.5,2\n",
        '"label","ax","ay"\r\n"0","1.5","2"\r\n',
    ],
)
def test_a_table_as_other_programs_write_it(tmp_path: Path, text: str) -> None:
    head, *line = text.splitlines()
    (tmp_path / "a.csv").write_text("\n".join([head, *line * 3]))
    windows = read_folder(tmp_path, SHAPE)
    assert windows.x.tolist() == [[[1.5, 2.0]] * 3]
    assert windows.y.tolist() == [0]


def test_arrays_in_a_file_or_its_folder(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(6, 3, 2))
    np.savez(tmp_path / "mine.npz", X=x, y=[0, 1, 2, 0, 1, 2])
    for path in (tmp_path, tmp_path / "mine.npz"):
        windows = read_folder(path, SHAPE)
        np.testing.assert_array_equal(windows.x, x.astype(np.float32))
        assert windows.y.tolist() == [0, 1, 2, 0, 1, 2]


def test_arrays_of_another_shape_or_other_classes_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "shape.npz", X=np.ones((4, 5, 2)), y=np.zeros(4, int))
    with pytest.raises(DataError, match=r"expected windows of shape \(3, 2\).*found \(5, 2\)"):
        read_folder(tmp_path / "shape.npz", SHAPE)
    np.savez(tmp_path / "label.npz", X=np.ones((4, 3, 2)), y=np.arange(4))
    with pytest.raises(DataError, match=r"expected labels 0..2 \(3 classes\), found 0..3"):
        read_folder(tmp_path / "label.npz", SHAPE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file"),
        ("window,label,ax,ay\n", "no lines"),
        ("window,ax,ay\n1,1,1\n", "expected the columns window, label and 2 channels"),
        ("t,label,ax,ay\n1,0,1,1\n", r"found t, label, ax, ay; name those .* channels = \["),
        ("label,ax,ay\n0,1,1,9\n", "a name in the first line"),
        ("label,ax,ax\n0,1,1\n", "different names, found 'ax' twice"),
        ("Label,ax,label\n0,1,1\n", "different names, found 'label' twice"),
        ("label,ax,ay\n0,inf,1\n", "line 2: .* column 'ax', found 'inf'"),
        ("label,ax,ay\n0,1,-1e39\n", "line 2: .* column 'ay', found '-1e[+]39'"),
        ("label,ax,ay\n0,1,1\n\n0,x,1\n", "a.csv, line 4: .* found 'x'"),
        ("label,ax,ay\n" + "Walk,1,1\n" * 3, "did you mean 'walk'"),
        ("label;ax;ay\n0;1.000,5;1\n", "found '1.000,5'"),
        ("window,label,ax\n0,0,1\n", "found window, label, ax"),
        ("window,label,ax,ay\n0,0,1,1\n0,0,1,1\n", "expected 3 lines per window, found 2"),
        (
            "window,label,ax,ay\n0,0,1,1\n0,0,1,x\n0,0,1,1\n",
            "a.csv, line 3: .* column 'ay', found 'x'",
        ),
        ("window,label,ax,ay\n0,0,1,1\n0,,1,1\n0,0,1,1\n", "a.csv, line 3: expected a label"),
        ("window,label,ax,ay\n0,0,1,1\n0,0,1,\n0,0,1,1\n", "a.csv, line 3: .* found an empty cell"),
        ("window,label,ax,ay\n0,0,1,1\n0,1,1,1\n0,0,1,1\n", "several in window 0"),
        ("window,label,ax,ay\n" + "0,run,1,1\n" * 3, "0..2 or one of sit, stand, walk, found run"),
        ("window,label,ax,ay\n" + "0,3,1,1\n" * 3, "found 3"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_folder(path, SHAPE)
    assert str(path.parent) in str(error.value)


def test_a_wrong_window_is_named_with_its_line(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [("0", "0"), ("1", "0"), ("1", "0"), ("2", "1")])
    with pytest.raises(DataError, match=r"found 6 for window 1 \(line 5\), and 1 such windows"):
        read_folder(path, SHAPE)
    with pytest.raises(DataError, match=r"save an .npz file instead"):
        read_folder(path, DataShape((3, 2, 1), ("a",)))


def test_a_place_without_windows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nothing"):
        read_folder(tmp_path / "none", SHAPE)
    with pytest.raises(DataError, match="found an empty folder"):
        read_folder(tmp_path, SHAPE)
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(DataError, match="found another kind of file"):
        read_folder(tmp_path / "a.txt", SHAPE)
    table(tmp_path / "a.csv", [("0", "0")])
    np.savez(tmp_path / "a.npz", X=np.ones((1, 3, 2)), y=[0])
    table(tmp_path / "Day-2.csv", [("0", "1")])  # in the order of the names
    assert read_folder(tmp_path, SHAPE).y.tolist() == [1, 0, 0]


def test_the_settings_say_the_shape_and_no_place_has_all_of_it() -> None:
    source = source_of("folder")
    settings = DataSettings(dataset="folder", input_shape="128,9", classes="3")

    assert source.shape(settings) == DataShape((128, 9), ("0", "1", "2"))
    for ask in (source.population, source.windows):
        with pytest.raises(DataError, match="expected data-path in the node-config"):
            ask(settings)
    with pytest.raises(SettingsError, match="input-shape"):
        source_of("folder").shape(DataSettings(input_shape="128,9"))


def test_labels_of_any_spelling_are_labels(tmp_path: Path) -> None:
    spelt = DataShape((3, 1), ("null", "None", "NA", "nan"))
    lines = ["label,ax", *(f"{name},{k}" for name in spelt.class_names for k in range(3))]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    windows = read_folder(tmp_path, spelt)
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
    for name in ("empty.csv", "empty.npz", "empty.csv.gz", "empty.parquet"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "zeros.csv").write_bytes(bytes(4096))
    np.savez(tmp_path / "none.npz", X=np.ones((0, 3, 1)), y=np.ones(0, int))
    (tmp_path / "._good.csv").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    (tmp_path / "days").symlink_to(tmp_path.parent, target_is_directory=True)
    (tmp_path / "gone.csv").symlink_to("nowhere.csv")
    with caplog.at_level(logging.WARNING):
        assert len(read_folder(tmp_path, STATES).y) == 1
    named = {path.name for path in tmp_path.iterdir()} - {"good.csv"}
    assert [name for name in named if f" {name} (" not in caplog.text] == []


def test_columns_of_a_folders_files_go_by_their_names(tmp_path: Path) -> None:
    shape = DataShape((1, 2), ("sit", "walk"))
    (tmp_path / "a.csv").write_text("ax,ay,label\n1,2,sit\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("label,ay,ax\nsit,2,1\n", encoding="utf-8")
    assert read_folder(tmp_path, shape).x.tolist() == [[[1.0, 2.0]]] * 2
    (tmp_path / "c.csv").write_text("gx,gy,label\n1,2,sit\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"c\.csv: expected the columns label and ax, ay, found gx"):
        read_folder(tmp_path, shape)
