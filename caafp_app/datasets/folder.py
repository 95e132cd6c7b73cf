"""One client's own windows on a device, from the path that its operator typed.

``flower-supernode --node-config 'data-path="/home/pi/windows.npz"'`` names a file, or a folder of
any number of files, which are read in the order of their names, those of subfolders too. Files
without a single window are left out, and the log names them.

- NPZ: ``X`` [n, time, channels] and ``y`` [n], in the order of recording.
- CSV (also gzipped) and Parquet: a line per sample, of recordings or of windows;
  :mod:`caafp_app.datasets.table` has the layout.

No device sees all classes, so what the numbers mean is for the settings to say, the same
everywhere: ``input-shape`` and ``classes``. What a device's own numbers and
columns mean may stand beside them, in ``dataset.toml`` (:mod:`caafp_app.datasets.form`).
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from caafp_app.datasets.arrays import AnyArray, as_windows, read_npz
from caafp_app.datasets.base import DataShape, DataSource, FloatArray, IntArray, Windows
from caafp_app.datasets.cells import TooShortError
from caafp_app.datasets.form import (
    FILE,
    Form,
    check_rate,
    class_names,
    ordered_channels,
    read_form,
    run_classes,
)
from caafp_app.datasets.npz import labels_of
from caafp_app.datasets.table import read_table
from caafp_app.errors import DataError, SettingsError
from caafp_app.settings import DataSettings

SUFFIXES = (".npz", ".csv", ".csv.gz", ".parquet")
"""Files that are read, in any case."""

logger = logging.getLogger(__name__)


class FolderSource(DataSource):
    """Data that lies on the devices: the settings say its form, and no place has all of it."""

    def shape(self, settings: DataSettings) -> DataShape:
        """Return what ``input-shape`` and ``classes`` say."""
        if settings.shape is None or not settings.class_count:
            raise SettingsError(
                "dataset 'folder': expected input-shape=\"time,channels\" and classes (a number or "
                "names), because the server has no data to see them in; found "
                f"input-shape={settings.input_shape!r} and classes={settings.classes!r}"
            )
        numbers = tuple(str(k) for k in range(settings.class_count))
        return DataShape(settings.shape, settings.names_of_classes or numbers)

    def windows(self, settings: DataSettings) -> Windows:
        """Refuse: no place has all windows."""
        raise DataError(
            "dataset 'folder': expected data-path in the node-config of a SuperNode (one client's "
            "own windows on a device), found none; for a simulation choose another dataset, such "
            "as npz"
        )


def read_folder(path: Path, shape: DataShape, run: Form | None = None) -> Windows:
    """Read one client's windows.

    Parameters
    ----------
    path : Path
        A file, or a folder of files (`data_files`); ``dataset.toml`` may lie beside.
    shape : DataShape
        What they have to be.
    run : Form, optional
        What the run says of them besides.

    Returns
    -------
    Windows
        Of one user, number 0. The classes are the run's, by the device's names where it alone has
        any.

    Raises
    ------
    DataError
        Nothing there, or it is not windows of that shape and those classes.
    """
    run = run or Form()
    # Before the form: one that lies beside a path that is not there is another's.
    files = data_files(path)
    own = read_form(path)
    check_rate(path, own, run)
    named = bool(run.classes)
    names = class_names(path, own, shape, named)
    local = DataShape(shape.input_shape, names)

    def read(file: Path) -> tuple[AnyArray, IntArray]:
        if file.suffix.lower() != ".npz":
            return read_table(file, local, _picked(own, run))
        arrays = _filled(read_npz(file, ("X", "y")))
        x = ordered_channels(arrays["X"], own, run, file)
        return x, labels_of(arrays["y"], names, len(x), str(file))[0]

    parts = _parts(path, files, shape, read)
    x = np.concatenate([part[0] for part in parts])
    y = run_classes(np.concatenate([part[1] for part in parts]), names, shape, named)
    return Windows(x, y, np.zeros(len(y), np.int64), shape.class_names if named else names)


def read_unlabelled(path: Path, shape: DataShape, run: Form | None = None) -> FloatArray:
    """Read windows as `read_folder` does, without their labels, which may be missing.

    Raises
    ------
    DataError
        As `read_folder`.
    """
    run = run or Form()
    # Before the form: one that lies beside a path that is not there is another's.
    files = data_files(path)
    own = read_form(path)
    check_rate(path, own, run)

    def read(file: Path) -> tuple[AnyArray, IntArray]:
        if file.suffix.lower() != ".npz":
            return read_table(file, shape, _picked(own, run), labelled=False)
        x = ordered_channels(_filled(read_npz(file, ("X",)))["X"], own, run, file)
        return x, np.zeros(len(x), np.int64)

    return np.concatenate([x for x, _ in _parts(path, files, shape, read)])


def _picked(own: Form, run: Form) -> Form:
    """Return the form by which columns of a table are picked: the run's channels go before."""
    return replace(own, channels=run.channels or own.channels)


def _parts(
    path: Path,
    found: tuple[list[Path], list[str]],
    shape: DataShape,
    read: Callable[[Path], tuple[AnyArray, IntArray]],
) -> list[tuple[FloatArray, IntArray]]:
    """Read all files found at a path; those without a window are left out and named."""
    files, left_out = found
    parts = []
    for file in files:
        try:
            x, y = read(file)
        except TooShortError as short:
            left_out.append(f"{file.name} ({short})")
            continue
        windows = as_windows(x, str(file))
        if tuple(windows.shape[1:]) != shape.input_shape:
            raise DataError(
                f"{file}: expected windows of shape {shape.input_shape} (input-shape), found "
                f"{windows.shape[1:]}"
            )
        parts.append((windows, y))
    if not parts:
        raise DataError(
            f"data-path {path}: expected a file with at least one window of "
            f"{shape.input_shape[0]} samples, found {'; '.join(left_out)}"
        )
    if left_out:
        logger.warning("data-path %s: left out: %s", path, "; ".join(left_out))
    return parts


def _is_empty(file: Path) -> bool:
    """Say whether a file begins with nothing, or with the zeros that a loss of power leaves."""
    with file.open("rb") as opened:
        return not opened.read(1 << 16).strip(b"\0")


def _filled(arrays: dict[str, AnyArray]) -> dict[str, AnyArray]:
    if not arrays["X"].size:
        raise TooShortError("no windows")
    return arrays


def data_files(path: Path) -> tuple[list[Path], list[str]]:
    """Return the files of windows or recordings that a path names, and what else lies there.

    Parameters
    ----------
    path : Path
        A file; or a folder, which is searched with all below it, in the order of the names.

    Returns
    -------
    tuple[list[Path], list[str]]
        Files to read; and of the others each name with the reason why it is not read.

    Raises
    ------
    DataError
        There is no file to read.
    """
    if path.is_file() and path.name.lower().endswith(SUFFIXES):
        return [path], []
    files, left_out = [], []
    found = "another kind of file" if path.exists() else "nothing"
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path)
            if not file.is_file() or file.name == FILE:
                continue
            if any(part.startswith(".") for part in name.parts):
                # "._a.csv" is what macOS keeps beside a.csv on another file system.
                if file.name.lower().endswith(SUFFIXES):
                    left_out.append(f"{name} (a hidden file)")
            elif not file.name.lower().endswith(SUFFIXES):
                left_out.append(f"{name} (another kind of file)")
            elif _is_empty(file):
                left_out.append(f"{name} (an empty file)")
            else:
                files.append(file)
        found = "; ".join(left_out[:5]) or "an empty folder"
    if not files:
        raise DataError(
            f"data-path {path}: expected a file of {', '.join(SUFFIXES)}, or a folder of such "
            f"files, found {found}"
        )
    return files, left_out
