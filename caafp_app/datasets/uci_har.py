"""UCI HAR: 30 people, 6 activities, a phone at the waist; 9 inertial signals at 50 Hz.

"Human Activity Recognition Using Smartphones", Anguita, Ghio, Oneto, Parra, Reyes-Ortiz, ESANN
2013; CC BY 4.0. 10 299 windows of 128 samples (2.56 s) that overlap by half. The published train
and test parts are parts of the *people*; here each person is a client with a train and a test part
of their own, so the two are merged.
"""

import logging
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from caafp_app.datasets.base import DataShape, DataSource, FloatArray, IntArray, Windows
from caafp_app.datasets.cache import beside, cache_dir, cached_windows, locked, signature
from caafp_app.datasets.uci_archive import (
    ALL_MEMBERS,
    SIGNALS,
    SPLITS,
    Root,
    find_archive,
    members,
    open_archive,
)
from caafp_app.errors import DataError
from caafp_app.settings import DataSettings

URL = (
    "https://archive.ics.uci.edu/static/public/240/human+activity+recognition+using+smartphones.zip"
)
CLASSES = ("walking", "walking-upstairs", "walking-downstairs", "sitting", "standing", "laying")
TIME = 128
SUBJECTS = 30
PUBLISHED: Mapping[str, int] = {"train": 7352, "test": 2947}
"""Windows of the two published parts."""

_MAX_DOWNLOAD = 256 * 2**20
_TIMEOUT = 60.0

logger = logging.getLogger(__name__)


class UciHarSource(DataSource):
    """The published archive, from ``data-dir`` or downloaded once."""

    known_shape = DataShape((TIME, len(SIGNALS)), CLASSES)
    form_known = True

    def population(self, settings: DataSettings) -> int:
        """Return 30; nothing is read."""
        return SUBJECTS

    def windows(self, settings: DataSettings) -> Windows:
        """Return all 10 299 windows; parsed once per machine, mapped from the cache afterwards."""
        place = settings.data_dir
        path = find_archive(Path(place).expanduser()) if place else _downloaded()
        files = [path] if path.is_file() else [path / member for member in ALL_MEMBERS]
        return _load(path, signature(file for file in files if file.is_file()))

    def to_fetch(self, settings: DataSettings) -> str:
        """Name the archive, unless ``data-dir`` or the cache has it."""
        return "" if settings.data_dir or _cached().is_file() else f"{URL} into {cache_dir()}"

    def label(self, user: int) -> str:
        """Return ``subject-07`` for the published subject 7."""
        return f"subject-{user:02d}"


def _cached() -> Path:
    return cache_dir() / "uci-har.zip"


def _downloaded() -> Path:
    """Return the archive in the cache, fetched the first time."""
    path = _cached()
    instead = "without network, set data-dir to the archive (zip or folder) on this machine"
    try:
        with locked(path.with_name(f"{path.name}.lock")):
            if not path.is_file():
                download(URL, path, max_bytes=_MAX_DOWNLOAD, instead=instead)
                if not zipfile.is_zipfile(path):
                    path.unlink()
                    raise DataError(f"{URL}: expected a zip archive, found another file; {instead}")
    except OSError as error:
        raise DataError(
            f"{path.parent}: expected a folder to keep the archive in, found {error}; set "
            "CAAFP_HOME to one that can be written, or data-dir to the archive"
        ) from error
    return path


def download(url: str, path: Path, *, max_bytes: int, instead: str) -> None:
    """Fetch ``url`` into ``path``, which is not there before it is complete.

    An answer of more than `max_bytes` is not the file, and is given up. `instead`, what a person
    without network can do, ends the message of the DataError.
    """
    # Not where nothing is fetched: they are half of what importing the data sets would cost.
    import urllib.request
    from http.client import HTTPException

    logger.warning("downloading %s into %s", url, path.parent)
    with beside(path) as fresh:
        try:
            received = 0
            with (
                urllib.request.urlopen(url, timeout=_TIMEOUT) as answer,
                (fresh / "part").open("wb") as file,
            ):
                announced = answer.headers.get("Content-Length")
                while chunk := answer.read(2**20):
                    received += len(chunk)
                    if received > max_bytes:
                        most = f"{max_bytes / 2**20:.0f} MiB"
                        raise DataError(f"{url}: expected at most {most}, found more; {instead}")
                    file.write(chunk)
            if announced is not None and received != int(announced):
                raise DataError(f"{url}: expected {announced} bytes, found {received}; {instead}")
            (fresh / "part").replace(path)
        except (OSError, HTTPException, ValueError) as error:
            raise DataError(f"{url}: expected to download it, found {error}; {instead}") from error


@lru_cache(maxsize=2)
def _load(path: Path, key: str) -> Windows:
    def build() -> Windows:
        with open_archive(path) as root:
            return parse(root, path)

    return cached_windows(f"uci-har-{key}", build)


def parse(root: Root, where: Path, expected: Mapping[str, int] = PUBLISHED) -> Windows:
    """Read both parts of a whole archive, of so many windows each as `expected`, and merge them.

    Windows are ``[n, 128, 9]``, channels as in `SIGNALS`, users the published subjects, classes the
    published activities less 1.

    Raises DataError, which names `where`, if a file is damaged, has another number of windows or
    samples, or labels and subjects that the published set does not have.
    """
    parts = [_parse_split(root, where, split, expected[split]) for split in SPLITS]
    x, labels, subjects = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    present = len(np.unique(subjects))
    if present != SUBJECTS:
        raise DataError(f"{where}: expected {SUBJECTS} subjects, found {present}")
    return Windows.grouped(x, labels - 1, subjects, CLASSES)


def _parse_split(
    root: Root, where: Path, split: str, count: int
) -> tuple[FloatArray, IntArray, IntArray]:
    *signals, labels_file, subjects_file = members(split)
    x = np.empty((count, TIME, len(SIGNALS)), np.float32)
    for channel, member in enumerate(signals):
        x[:, :, channel] = _table(root, where, member, count, TIME)
    labels = _numbers(root, where, labels_file, count, len(CLASSES))
    subjects = _numbers(root, where, subjects_file, count, SUBJECTS)
    return x, labels, subjects


def _table(root: Root, where: Path, member: str, rows: int, columns: int) -> FloatArray:
    """Read one file of numbers: float32 ``[rows, columns]``."""
    import pandas as pd  # not where nothing is parsed: it takes as long to import as flwr

    try:
        with root.joinpath(member).open("rb") as file:
            frame = pd.read_csv(file, sep=r"\s+", header=None, dtype=np.float32)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{where}: {member}: expected lines of {columns} numbers, found {error}"
        ) from error
    table = frame.to_numpy()
    if table.shape != (rows, columns):
        raise DataError(
            f"{where}: {member}: expected {rows} lines of {columns} numbers, found "
            f"{table.shape[0]} of {table.shape[1]}; the archive is partial or not the published one"
        )
    if not np.isfinite(table).all():
        line = int(np.argmin(np.isfinite(table).all(axis=1))) + 1
        raise DataError(
            f"{where}: {member}: expected {columns} finite numbers on every line, found fewer on "
            f"{line}"
        )
    return np.asarray(table, np.float32)


def _numbers(root: Root, where: Path, member: str, rows: int, highest: int) -> IntArray:
    """Read one file of a whole number per line, ``1..highest``: int64 ``[rows]``."""
    values = _table(root, where, member, rows, 1)[:, 0]
    numbers = values.astype(np.int64)
    wrong = (numbers != values) | (numbers < 1) | (numbers > highest)
    if wrong.any():
        line = int(np.argmax(wrong))
        raise DataError(
            f"{where}: {member}: expected whole numbers 1..{highest}, found {values[line]:g} on "
            f"line {line + 1}"
        )
    return numbers
