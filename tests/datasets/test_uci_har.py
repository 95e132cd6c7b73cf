import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from caafp_app.datasets import Windows, source_of, uci_har
from caafp_app.datasets.uci_archive import SIGNALS, find_archive, open_archive
from caafp_app.datasets.uci_har import download, parse
from caafp_app.errors import DataError
from caafp_app.settings import DataSettings

SOURCE = source_of("uci-har")
COUNTS = {"train": 40, "test": 20}


def windows_of(place: Path) -> Windows:
    return SOURCE.windows(DataSettings(dataset="uci-har", data_dir=str(place)))


def parsed(place: Path) -> Windows:
    """Read a small archive, in which the counts alone are not the published ones."""
    with open_archive(find_archive(place)) as root:
        return parse(root, place, COUNTS)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder in the published layout with 60 windows, subjects 1..20 and 21..30."""
    rng = np.random.default_rng(2)
    for split, count, first, people in (("train", 40, 1, 20), ("test", 20, 21, 10)):
        inertial = tmp_path / "UCI HAR Dataset" / split / "Inertial Signals"
        inertial.mkdir(parents=True)
        x = rng.normal(size=(count, 128, len(SIGNALS)))
        np.save(tmp_path / f"{split}.npy", x)
        for channel, signal in enumerate(SIGNALS):
            np.savetxt(inertial / f"{signal}_{split}.txt", x[:, :, channel], fmt="% .7e")
        labels, subjects = np.arange(count) % 6 + 1, np.arange(count) % people + first
        np.savetxt(inertial.parent / f"y_{split}.txt", labels, fmt="%d")
        np.savetxt(inertial.parent / f"subject_{split}.txt", subjects, fmt="%d")
    return tmp_path


def zipped(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        # As in the published one, which was made on a Mac.
        archive.writestr("__MACOSX/UCI HAR Dataset/train/._y_train.txt", "x")
        archive.writestr("__MACOSX/UCI HAR Dataset/train/y_train.txt", "x")
        for file in sorted(folder.rglob("*.txt")):
            archive.write(file, prefix + str(file.relative_to(folder)))
    return path


def form_of(name: str, small: Path) -> Path:
    """Bring the small archive into one of the forms in which it comes; return a data-dir."""
    folder = small / "UCI HAR Dataset"
    if name == "folder":
        return folder
    if name == "folder of the folder":
        return small
    place = small / "place"
    place.mkdir()
    inner = zipped(folder, place / "UCI HAR Dataset.zip", "UCI HAR Dataset/")
    if name == "inner zip":
        return inner
    if name == "folder of the inner zip":
        return place
    if name == "flat zip":
        return zipped(folder, small / "flat.zip")
    outer = small / "outer" / "human+activity+recognition+using+smartphones.zip"
    outer.parent.mkdir()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("UCI HAR Dataset.names", "x")
        archive.write(inner, "UCI HAR Dataset.zip")
    (outer.parent / "another.zip").write_bytes(b"no zip at all")
    zipped(small / "place", outer.parent / "a-zip-of-something-else.zip")
    return outer if name == "outer zip" else outer.parent


@pytest.mark.parametrize(
    "form",
    [
        "folder",
        "folder of the folder",
        "inner zip",
        "folder of the inner zip",
        "flat zip",
        "outer zip",
        "folder of the outer zip",
    ],
)
def test_every_form_of_the_archive_gives_the_same_windows(small: Path, form: str) -> None:
    windows = parsed(form_of(form, small))
    x = np.concatenate([np.load(small / "train.npy"), np.load(small / "test.npy")])
    subjects = np.concatenate([np.arange(40) % 20 + 1, np.arange(20) % 10 + 21])
    labels = np.concatenate([np.arange(40) % 6, np.arange(20) % 6])
    order = np.argsort(subjects, kind="stable")

    np.testing.assert_allclose(windows.x, x[order], rtol=1e-6)
    assert windows.y.tolist() == labels[order].tolist()
    assert windows.user.tolist() == subjects[order].tolist()
    assert windows.shape == SOURCE.shape(DataSettings(dataset="uci-har"))


Lines = list[str]
SIGNAL = "train/Inertial Signals/body_gyro_y_train.txt"


@pytest.mark.parametrize(
    ("member", "defect", "message"),
    [
        (SIGNAL, lambda x: x[:-3], "40 lines of 128 numbers, found 37 of 128; the archive is part"),
        (SIGNAL, lambda x: [one.rsplit(maxsplit=1)[0] for one in x], "found 40 of 127"),
        (
            SIGNAL,
            lambda x: [x[0], x[1].rsplit(maxsplit=1)[0], *x[2:]],
            "expected 128 finite numbers on every line, found fewer on 2",
        ),
        (SIGNAL, lambda x: [x[0], x[1] + " 1.0", *x[2:]], "lines of 128 numbers, found .*line 2"),
        (SIGNAL, lambda x: [x[0], x[1].replace("e", "x", 1), *x[2:]], "lines of 128 numbers"),
        (SIGNAL, lambda x: [], "expected lines of 128 numbers, found No columns"),
        ("test/y_test.txt", lambda x: [*x[:4], "7", *x[5:]], "numbers 1..6, found 7 on line 5"),
        ("train/y_train.txt", lambda x: ["1.5", *x[1:]], "found 1.5 on line 1"),
        ("train/subject_train.txt", lambda x: ["0", *x[1:]], "1..30, found 0 on line 1"),
        ("test/subject_test.txt", lambda x: ["3"] * len(x), "expected 30 subjects, found 20"),
    ],
)
def test_a_defect_is_named_with_its_file(
    small: Path, member: str, defect: Callable[[Lines], Lines], message: str
) -> None:
    path = small / "UCI HAR Dataset" / member
    lines = defect(path.read_text().splitlines())
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(DataError, match=message) as error:
        parsed(small)
    assert "subjects, found" in message or member in str(error.value)


def test_missing_files_are_listed(small: Path) -> None:
    shutil.rmtree(small / "UCI HAR Dataset" / "test")
    with pytest.raises(
        DataError, match=r"the 22 files .*found 11; missing: test/Inertial.*, \.\.\."
    ):
        parsed(small)
    inner = zipped(small / "UCI HAR Dataset", small / "har.zip")
    with pytest.raises(DataError, match=r"the 22 files .*found 11"):
        parsed(inner)


def test_a_small_archive_is_not_the_published_one(small: Path, home: Path) -> None:
    with pytest.raises(DataError, match="expected 7352 lines of 128 numbers, found 40"):
        windows_of(small)
    assert not [path for path in (home / "cache").iterdir() if path.is_dir()]


def test_a_place_without_the_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nothing"):
        windows_of(tmp_path / "none")
    with pytest.raises(DataError, match=r"expected the published UCI HAR archive .*neither"):
        windows_of(tmp_path)
    (tmp_path / "a.zip").write_text("no zip")
    with pytest.raises(DataError, match="expected a zip archive that is whole"):
        windows_of(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("raw/experiment.txt", "1")
    with pytest.raises(DataError, match="found another one"):
        windows_of(tmp_path / "b.zip")


def test_a_damaged_zip_is_refused(small: Path) -> None:
    path = zipped(small / "UCI HAR Dataset", small / "har.zip")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(DataError, match="expected"):
        parsed(path)
    path.write_bytes(content[:middle])
    with pytest.raises(DataError, match="that is whole"):
        parsed(path)


def test_a_member_that_claims_to_be_huge_is_not_unpacked(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(small / "UCI HAR Dataset", small / "har.zip")
    monkeypatch.setattr("caafp_app.datasets.uci_archive._MAX_MEMBER", 1000)
    with pytest.raises(DataError, match="to be at most"):
        parsed(path)
    outer = small / "outer.zip"
    with zipfile.ZipFile(outer, "w") as archive:
        archive.write(path, "UCI HAR Dataset.zip")
    monkeypatch.setattr("caafp_app.datasets.uci_archive._MAX_INNER", 1000)
    with pytest.raises(DataError, match=r"expected UCI HAR Dataset.zip to be at most"):
        parsed(outer)


def test_the_real_recordings_are_read_exactly(
    uci_folder: Path, shared_data: Path, unpacker: ModuleType
) -> None:
    windows = windows_of(uci_folder)
    truth = list(unpacker.windows(shared_data / "uci_har_signals.npz"))
    truth.sort(key=lambda window: window[0])  # stable: each subject is in one published part

    assert windows.x.shape == (10299, 128, 9)
    assert windows.user.tolist() == [subject for subject, _, _ in truth]
    assert windows.y.tolist() == [label - 1 for _, label, _ in truth]
    np.testing.assert_array_equal(windows.x, np.stack([window for _, _, window in truth]))
    assert isinstance(windows.x, np.memmap)
    assert windows_of(uci_folder) is windows


def test_a_file_is_fetched_whole_and_one_that_is_too_long_is_given_up(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    origin.write_bytes(bytes(range(256)) * 50)
    target = tmp_path / "new" / "target"
    download(origin.as_uri(), target, max_bytes=12_800, instead="")
    assert target.read_bytes() == origin.read_bytes()
    with pytest.raises(DataError, match="found more; ask a friend"):
        download(origin.as_uri(), tmp_path / "new" / "b", max_bytes=12_799, instead="ask a friend")
    assert list(target.parent.iterdir()) == [target]


def test_what_cannot_be_fetched_or_is_no_archive_is_said_and_not_kept(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DataSettings(dataset="uci-har")
    # Port 9 of this machine: refused at once, and nothing leaves it.
    monkeypatch.setattr(uci_har, "URL", "http://127.0.0.1:9/har.zip")
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9/har\.zip.*set data-dir to the archive"):
        SOURCE.windows(settings)
    page = tmp_path / "login.html"
    page.write_text("please log in")
    monkeypatch.setattr(uci_har, "URL", page.as_uri())
    with pytest.raises(DataError, match="expected a zip archive, found another file"):
        SOURCE.windows(settings)
    assert not (home / "cache" / "uci-har.zip").exists()


def test_an_archive_is_fetched_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "not the recordings")
    monkeypatch.setattr(uci_har, "URL", other.as_uri())
    for _ in range(2):
        with pytest.raises(DataError, match="expected the UCI HAR archive"):
            SOURCE.windows(DataSettings(dataset="uci-har"))
        other.unlink(missing_ok=True)  # the second time there is nothing to fetch it from
    assert (home / "cache" / "uci-har.zip").is_file()
