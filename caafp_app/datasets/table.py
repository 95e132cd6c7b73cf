"""A table of samples as windows: the CSV layout of one client's own recordings.

A line per *sample*, with a header: ``window,label,<channel>,<channel>,...``. Lines that follow each
other with the same ``window`` are one window; all of them carry its label, which is a class number
0..k-1 or the name of a class of the data set::

    window,label,acc_x,acc_y,acc_z
    0,2,0.01,0.98,0.13
    0,2,0.02,0.97,0.11
    ...
    1,2,0.02,0.99,0.10
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from caafp_app.datasets.arrays import MAX_BYTES, AnyArray
from caafp_app.datasets.base import DataShape, IntArray
from caafp_app.errors import DataError


def read_table(path: Path, shape: DataShape) -> tuple[AnyArray, IntArray]:
    """Read a table of samples.

    Parameters
    ----------
    path : Path
        The file.
    shape : DataShape
        ``(time, channels)`` of a window, and the classes.

    Returns
    -------
    tuple[ndarray, ndarray]
        Windows ``[n, time, channels]``, numbers of whatever type, and classes int64 ``[n]``.

    Raises
    ------
    DataError
        It is no such table: which line or window, and what was expected of it.
    """
    import pandas as pd  # seconds on a small device, so only where a table is read

    if len(shape.input_shape) != 2:
        raise DataError(
            f"{path}: expected input-shape to be (time, channels) for a table, found "
            f"{shape.input_shape}; save an .npz file instead"
        )
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: expected at most {MAX_BYTES / 2**30:g} GiB")
    channels = shape.input_shape[1]
    try:
        table = pd.read_csv(path, dtype={"window": str, "label": str}, skipinitialspace=True)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: expected a table of samples, found {error}") from error
    columns = [str(column) for column in table.columns]
    if columns[:2] != ["window", "label"] or len(columns) != 2 + channels:
        raise DataError(
            f"{path}: expected the columns window, label and {channels} channels, found "
            f"{', '.join(columns)}"
        )
    samples = table.iloc[:, 2:].to_numpy()
    if (
        not len(samples)
        or samples.dtype.kind not in "fiu"
        or table.iloc[:, :2].isna().any(axis=None)
    ):
        raise DataError(f"{path}: expected a window, a label and {channels} numbers on every line")
    return _cut(path, table["window"].to_numpy(str), table["label"].to_numpy(str), samples, shape)


def _cut(
    path: Path,
    window: npt.NDArray[np.str_],
    label: npt.NDArray[np.str_],
    samples: AnyArray,
    shape: DataShape,
) -> tuple[AnyArray, IntArray]:
    """Cut lines into windows and look up their labels."""
    time, channels = shape.input_shape
    starts = np.flatnonzero(np.concatenate([[True], window[1:] != window[:-1]]))
    lengths = np.diff(np.concatenate([starts, [len(window)]]))
    wrong = np.flatnonzero(lengths != time)
    if len(wrong):
        first = starts[wrong[0]]
        raise DataError(
            f"{path}: expected {time} lines per window, found {lengths[wrong[0]]} for window "
            f"{window[first]} (line {first + 2}), and {len(wrong)} such windows"
        )
    per_window = label.reshape(-1, time)
    mixed = np.flatnonzero((per_window != per_window[:, :1]).any(axis=1))
    if len(mixed):
        raise DataError(
            f"{path}: expected one label per window, found several in window "
            f"{window[starts[mixed[0]]]}"
        )
    # A name goes before a number, where the names are numbers themselves.
    classes = {str(k): k for k in range(len(shape.class_names))}
    classes |= {name: k for k, name in enumerate(shape.class_names)}
    unknown = sorted(set(per_window[:, 0]) - set(classes))
    if unknown:
        raise DataError(
            f"{path}: expected labels 0..{len(shape.class_names) - 1} or one of "
            f"{', '.join(shape.class_names)}, found {', '.join(unknown[:5])}"
        )
    y = np.array([classes[name] for name in per_window[:, 0]], np.int64)
    return samples.reshape(-1, time, channels), y
