"""One client's own windows on a device, from the path that its operator typed.

``data-path`` in the node-config names a file, or a folder: see docs/data.md. No device sees all
classes, so what the numbers mean is for the settings to say, the same everywhere: ``input-shape``
and ``classes``. What a device's own numbers and columns mean may stand beside them, in
``dataset.toml`` (:mod:`caafp_app.datasets.form`).
"""

import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from caafp_app.datasets.arrays import as_windows, labels_of, read_npz
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
from caafp_app.datasets.table import read_table
from caafp_app.errors import DataError, SettingsError, reading
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
    """Read one client's windows, of a file or a folder of files (`data_files`), as those of user 0.

    ``dataset.toml`` may lie beside. They have to be of that shape, and as the run says of them
    besides. The classes are the run's, by the device's names where it alone has any.

    Raises DataError if nothing is there, or no windows of that shape and those classes.
    """
    named = run is not None and bool(run.classes)
    x, y, names = _read(path, shape, run or Form(), labelled=True)
    y = run_classes(y, names, shape, named)
    return Windows(x, y, np.zeros(len(y), np.int64), shape.class_names if named else names)


def read_unlabelled(path: Path, shape: DataShape, run: Form | None = None) -> FloatArray:
    """Read windows as `read_folder` does, without their labels, which may be missing."""
    return _read(path, shape, run or Form(), labelled=False)[0]


def _read(
    path: Path, shape: DataShape, run: Form, *, labelled: bool
) -> tuple[FloatArray, IntArray, tuple[str, ...]]:
    """Return windows, the device's class numbers, and the names of those classes."""
    # Before the form: one that lies beside a path that is not there is another's.
    files, left_out = data_files(path)
    own = read_form(path)
    check_rate(path, own, run)
    names = class_names(path, own, shape, bool(run.classes)) if labelled else shape.class_names
    local = DataShape(shape.input_shape, names)
    picked = replace(own, channels=run.channels or own.channels)
    parts, labels = [], []
    for file in files:
        try:
            if file.suffix.lower() != ".npz":
                x, y, columns = read_table(file, local, picked, labelled=labelled)
                # The next file may have them in another order.
                picked = replace(picked, channels=columns)
            else:
                arrays = read_npz(file, ("X", "y") if labelled else ("X",))
                if not arrays["X"].size:
                    raise TooShortError("no windows")
                x = ordered_channels(arrays["X"], own, run, file)
                y = np.zeros(len(x), np.int64)
                if labelled:
                    y, _ = labels_of(arrays["y"], names, len(x), str(file))
        except TooShortError as short:
            left_out.append(f"{file.name} ({short})")
            continue
        windows = as_windows(x, str(file))
        if tuple(windows.shape[1:]) != shape.input_shape:
            raise DataError(
                f"{file}: expected windows of shape {shape.input_shape} (input-shape), found "
                f"{windows.shape[1:]}"
            )
        parts.append(windows)
        labels.append(y)
    if not parts:
        raise DataError(
            f"data-path {path}: expected a file with at least one window of "
            f"{shape.input_shape[0]} samples, found {'; '.join(left_out)}"
        )
    if left_out:
        logger.warning("data-path %s: left out: %s", path, "; ".join(left_out))
    return np.concatenate(parts), np.concatenate(labels), names


def _is_empty(file: Path) -> bool:
    """Say whether a file begins with nothing, or with the zeros that a loss of power leaves."""
    with reading(file, DataError), file.open("rb") as opened:
        return not opened.read(1 << 16).strip(b"\0")


def data_files(path: Path) -> tuple[list[Path], list[str]]:
    """Return the files to read at a path, and of others each name with why it is not read.

    A folder is searched with all below it, in the order of the names. Raises DataError if there is
    no file to read.
    """
    if path.is_file() and path.name.lower().endswith(SUFFIXES):
        return [path], []
    files, left_out = [], []
    found = "another kind of file" if path.exists() else "nothing"
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path)
            inside = file.is_dir() and not file.is_symlink() and os.access(file, os.R_OK | os.X_OK)
            if inside or file.name == FILE:
                continue
            if any(part.startswith(".") for part in name.parts):
                # "._a.csv" is what macOS keeps beside a.csv on another file system.
                if file.name.lower().endswith(SUFFIXES):
                    left_out.append(f"{name} (a hidden file)")
            elif not file.is_file():
                left_out.append(f"{name} (no file, or a folder that is a link or cannot be read)")
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
