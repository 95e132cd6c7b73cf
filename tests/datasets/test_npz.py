import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from caafp_app.datasets import arrays, describe_client, source_of
from caafp_app.errors import DataError, SettingsError
from caafp_app.settings import DataSettings

SOURCE = source_of("npz")


def load(path: Path):
    return SOURCE.windows(DataSettings(dataset="npz", data_dir=str(path)))


def saved(path: Path, **changes: object) -> Path:
    values: dict[str, object] = {
        "X": np.ones((4, 5, 2)),
        "y": np.array([0, 1, 1, 0]),
        "user": np.array([1, 1, 2, 2]),
    }
    values |= changes
    np.savez(path / "data.npz", **{k: v for k, v in values.items() if v is not None})
    return path / "data.npz"


def test_a_file_is_read_in_the_order_of_its_users(npz_file: Path) -> None:
    windows = load(npz_file)
    with np.load(npz_file) as data:
        order = np.argsort(data["user"], kind="stable")
        np.testing.assert_array_equal(windows.x, data["X"][order])
        np.testing.assert_array_equal(windows.y, data["y"][order])
    assert windows.class_names == ("sit", "stand", "walk")
    settings = DataSettings(dataset="npz", data_dir=str(npz_file))
    assert SOURCE.population(settings) == 4
    assert SOURCE.shape(settings) == windows.shape
    assert load(npz_file) is windows


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    assert load(saved(tmp_path)).x[0, 0, 0] == 1
    path = saved(tmp_path, X=np.full((4, 5, 2), 7.0))
    os.utime(path, ns=(1, 1))
    assert load(path).x[0, 0, 0] == 7


def test_numbers_of_any_type_are_converted(tmp_path: Path) -> None:
    windows = load(saved(tmp_path, y=np.array([40, -2, 40, 7], np.int16)))
    assert windows.class_names == ("-2", "7", "40")
    assert windows.y.tolist() == [2, 0, 2, 1]
    windows = load(saved(tmp_path, y=np.array([4.0, 0, 4, 7]), user=np.array([1.0, 1, 2, 2])))
    assert windows.class_names == ("0", "4", "7")
    assert (windows.y.tolist(), windows.users.tolist()) == ([1, 0, 1, 2], [1, 2])
    windows = load(saved(tmp_path, X=np.arange(40).reshape(4, 5, 2), label_names=[b"a", b"b"]))
    assert (windows.x.dtype, windows.class_names) == (np.float32, ("a", "b"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": None}, "expected the arrays X, y, user, found y, user; add X"),
        ({"user": None}, "add user"),
        ({"X": np.ones(4)}, r"expected X to be numbers .* found float64 \[4\]"),
        ({"X": np.ones((0, 5, 2))}, "at least one window"),
        ({"X": np.ones((4, 5, 2)) > 0}, "found bool"),
        ({"X": np.full((4, 5, 2), np.nan)}, "NaN or infinity in 4 of 4"),
        ({"X": np.where(np.arange(40).reshape(4, 5, 2) == 25, np.inf, 1)}, "1 of 4 .* window 2"),
        ({"X": np.full((4, 5, 2), 1e300)}, "NaN or infinity in 4 of 4"),
        ({"X": np.full((4, 5, 2), "a")}, "found <U1"),
        (
            {"X": np.array([[None] * 2] * 4)},
            "expected X to be numbers or strings, found Python objects",
        ),
        ({"y": np.zeros(3, int)}, r"expected y to be 4 whole numbers.*found int64 \[3\]"),
        ({"y": np.full(4, 0.5)}, "found float64"),
        ({"user": np.array([0.5] * 4)}, "expected user to be 4 whole numbers or strings"),
        ({"label_names": np.array(["a"])}, r"expected labels 0..0.*found 0..1"),
        ({"label_names": np.array(["a", "a"])}, "expected label_names to differ"),
        ({"label_names": np.arange(2)}, "expected label_names to be a list of strings"),
        ({"y": np.array([0, 1, -1, 0]), "label_names": np.array(["a", "b"])}, "found -1..1"),
    ],
)
def test_arrays_that_are_not_windows_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = saved(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nothing"):
        load(tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"found a folder; data-dir has to name the .npz file"):
        load(tmp_path)
    with pytest.raises(SettingsError, match=r"needs the path of the .npz file"):
        DataSettings(dataset="npz")


def test_a_file_that_is_no_archive_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.npz"
    text.write_text("hello")
    with pytest.raises(DataError, match=r"expected an .npz file that is whole"):
        load(text)
    whole = saved(tmp_path).read_bytes()
    middle = len(whole) // 3
    (tmp_path / "bad.npz").write_bytes(
        whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 9]) + whole[middle + 9 :]
    )
    with pytest.raises(DataError):
        load(tmp_path / "bad.npz")


def test_an_array_that_claims_to_be_huge_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("X", "y", "user"):
            archive.writestr(f"{name}.npy", bytes(400_000))
    monkeypatch.setattr(arrays, "MAX_BYTES", 10**6)
    with pytest.raises(DataError, match="expected arrays of at most"):
        load(path)


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


def test_users_may_be_negative_numbers(tmp_path: Path) -> None:
    path, users = tmp_path / "mine.npz", np.array([-1, -1, 4])
    np.savez(path, X=np.ones((3, 3, 2)), y=np.arange(3), user=users)
    settings = DataSettings(dataset="npz", data_dir=str(path))
    assert describe_client(settings, {"partition-id": 0, "num-partitions": 2}).label == "user--1"
