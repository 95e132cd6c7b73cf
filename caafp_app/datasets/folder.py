"""One client's own windows on a device, from the path that its operator typed.

``flower-supernode --node-config 'data-path="/home/pi/windows.npz"'`` names a file, or a folder that
holds one ``.npz`` file or any number of ``.csv`` files (read in the order of their names).

- NPZ: ``X`` [n, time, channels] and ``y`` [n], in the order of recording.
- CSV: a line per sample, of recordings or of windows; :mod:`caafp_app.datasets.table` has the
  layout.

No device sees all classes, so what the numbers mean is for the settings to say, the same
everywhere: ``input-shape`` and ``classes``. What a device's own numbers and
columns mean may stand beside them, in ``dataset.toml`` (:mod:`caafp_app.datasets.form`).
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from caafp_app.datasets.arrays import as_numbers, as_windows, read_npz
from caafp_app.datasets.base import DataShape, DataSource, FloatArray, Windows
from caafp_app.datasets.form import (
    Form,
    check_rate,
    class_names,
    ordered_channels,
    read_form,
    run_classes,
)
from caafp_app.datasets.table import read_table
from caafp_app.errors import DataError, SettingsError
from caafp_app.settings import DataSettings


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

    def population(self, settings: DataSettings) -> int:
        """Refuse: there are as many clients as devices."""
        raise _not_here()

    def windows(self, settings: DataSettings) -> Windows:
        """Refuse: no place has all windows."""
        raise _not_here()


def _not_here() -> DataError:
    return DataError(
        "dataset 'folder': expected data-path in the node-config of a SuperNode (one client's own "
        "windows on a device), found none; for a simulation choose another dataset, such as npz"
    )


def read_folder(path: Path, shape: DataShape, run: Form | None = None) -> Windows:
    """Read one client's windows.

    Parameters
    ----------
    path : Path
        A ``.npz`` or ``.csv`` file, or a folder of them; ``dataset.toml`` may lie beside.
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
    files = _files(path)
    own = read_form(path)
    check_rate(path, own, run)
    named = bool(run.classes)
    names = class_names(path, own, shape, named)
    local = DataShape(shape.input_shape, names)
    if files[0].suffix == ".npz":
        arrays = read_npz(files[0], ("X", "y"))
        x = as_windows(ordered_channels(arrays["X"], own, run, path), str(path))
        y = as_numbers(arrays["y"], "y", len(x), str(path))
    else:
        parts = [read_table(file, local, _picked(own, run)) for file in files]
        x = as_windows(np.concatenate([part[0] for part in parts]), str(path))
        y = np.concatenate([part[1] for part in parts])
    _check_shape(x, shape, path)
    if y.min() < 0 or y.max() >= len(names):
        raise DataError(
            f"{path}: expected labels 0..{len(names) - 1} ({len(names)} classes), found "
            f"{y.min()}..{y.max()}"
        )
    y = run_classes(y, names, shape, named)
    return Windows(x, y, np.zeros(len(y), np.int64), shape.class_names if named else names)


def read_unlabelled(path: Path, shape: DataShape, run: Form | None = None) -> FloatArray:
    """Read windows as `read_folder` does, without their labels, which may be missing.

    Raises
    ------
    DataError
        As `read_folder`.
    """
    run = run or Form()
    files = _files(path)
    own = read_form(path)
    check_rate(path, own, run)
    if files[0].suffix == ".npz":
        x = ordered_channels(read_npz(files[0], ("X",))["X"], own, run, path)
    else:
        form = _picked(own, run)
        x = np.concatenate([read_table(file, shape, form, labelled=False)[0] for file in files])
    windows = as_windows(x, str(path))
    _check_shape(windows, shape, path)
    return windows


def _picked(own: Form, run: Form) -> Form:
    """Return the form by which columns of a table are picked: the run's channels go before."""
    return replace(own, channels=run.channels or own.channels)


def _check_shape(x: FloatArray, shape: DataShape, path: Path) -> None:
    if tuple(x.shape[1:]) != shape.input_shape:
        raise DataError(
            f"{path}: expected windows of shape {shape.input_shape} (input-shape), found "
            f"{x.shape[1:]}"
        )


def _files(path: Path) -> list[Path]:
    """Return the one ``.npz`` file or the ``.csv`` files that ``path`` names."""
    if path.is_file() and path.suffix in {".npz", ".csv"}:
        return [path]
    if path.is_dir():
        arrays, tables = sorted(path.glob("*.npz")), sorted(path.glob("*.csv"))
        if len(arrays) == 1 and not tables:
            return arrays
        if tables and not arrays:
            return tables
        found = f"{len(arrays)} .npz and {len(tables)} .csv files"
    else:
        found = "another kind of file" if path.exists() else "nothing"
    raise DataError(
        f"data-path {path}: expected an .npz or .csv file, or a folder with one .npz file or only "
        f".csv files of windows, found {found}"
    )
