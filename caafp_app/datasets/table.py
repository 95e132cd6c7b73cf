"""Samples in a CSV or Parquet file: recordings that are cut here, or windows that are cut already.

The layout is that of docs/data.md: a line per sample, its label the number or the name of a class.
"""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from caafp_app.datasets.arrays import AnyArray, window_rows
from caafp_app.datasets.base import DataShape, IntArray
from caafp_app.datasets.cells import HEADS, TooShortError, line_of, read_cells
from caafp_app.datasets.form import FILE, Form
from caafp_app.errors import DataError
from caafp_app.registry import hint

if TYPE_CHECKING:
    from pandas import DataFrame

Names = npt.NDArray[np.str_]


def read_table(
    path: Path, shape: DataShape, form: Form, *, labelled: bool
) -> tuple[AnyArray, IntArray, tuple[str, ...]]:
    """Read a table as windows ``[n, time, channels]``, classes int64 ``[n]``, names of channels.

    The channels of the form are picked by name, whatever else the table has; without them all
    columns are channels, in their order. Where it is not `labelled` the column may be missing, and
    classes are zeros.

    Raises TooShortError if it has no window, DataError if it is no such table: which line or
    window, and what was expected of it.
    """
    if len(shape.input_shape) != 2:
        raise DataError(
            f"{path}: expected input-shape to be (time, channels) for a table, found "
            f"{shape.input_shape}; save an .npz file instead"
        )
    time, count = shape.input_shape
    table = read_cells(path)
    columns = list(table.columns)
    heads = [name for name in HEADS if name in columns]
    if labelled and "label" not in columns:
        heads.append("label")
    channels = list(form.channels) or [name for name in columns if name not in HEADS]
    if not {*heads, *channels} <= {*columns} or len(channels) != count:
        wanted = ", ".join(form.channels) or f"{count} channels"
        which = " and ".join(filter(None, [", ".join(heads), wanted]))
        more = set(heads) <= set(columns) and not form.channels and len(channels) > count
        raise DataError(
            f"{path}: expected the columns {which}, found "
            f"{', '.join(columns) or 'none with a name'}"
            + (f"; name those to read in {FILE}: channels = [...]" if more else "")
        )
    if not len(table):
        raise TooShortError("no lines")
    samples = np.stack([_numbers(path, table, name) for name in channels], axis=1)
    label = np.full(len(samples), shape.class_names[0])
    if labelled:
        label = _words(path, table, "label")
    if "window" in heads:
        rows = _windows(path, _words(path, table, "window"), label, time)
    else:
        rows = _recordings(path, label, time, form.stride or max(time // 2, 1))
    return samples[rows], _classes(path, label[rows[:, 0]], shape), tuple(channels)


def _numbers(path: Path, table: "DataFrame", column: str) -> AnyArray:
    """Return a column of numbers that float32 holds, or name the first cell that has none."""
    import pandas as pd

    found = table[column]
    values: AnyArray = pd.to_numeric(found, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~(np.abs(values) <= np.finfo(np.float32).max))
    if len(wrong):
        cell = found.iloc[wrong[0]]
        what = "an empty cell" if cell is None or cell != cell else repr(str(cell))
        more = f", and {len(wrong) - 1} more such lines" if len(wrong) > 1 else ""
        raise DataError(
            f"{path}, line {line_of(path, int(wrong[0]))}: expected a number in column {column!r}, "
            f"found {what}{more}"
        )
    return values


def _words(path: Path, table: "DataFrame", column: str) -> Names:
    """Return a column of words, or name the first cell that is empty."""
    values = np.char.strip(table[column].fillna("").astype(str).to_numpy(str))
    empty = np.flatnonzero(values == "")
    if len(empty):
        raise DataError(
            f"{path}, line {line_of(path, int(empty[0]))}: expected a {column}, found an empty cell"
        )
    return values


def _runs(values: Names) -> IntArray:
    """Return where runs of equal values begin, and the end of the last one."""
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    return np.concatenate([[0], changes, [len(values)]])


def _windows(path: Path, window: Names, label: Names, time: int) -> IntArray:
    """Return the lines of windows that are cut already [n, time]."""
    borders = _runs(window)
    starts, lengths = borders[:-1], np.diff(borders)
    wrong = np.flatnonzero(lengths != time)
    if len(wrong):
        first = starts[wrong[0]]
        raise DataError(
            f"{path}: expected {time} lines per window, found {lengths[wrong[0]]} for window "
            f"{window[first]} (line {first + 2}), and {len(wrong)} such windows"
        )
    rows = starts[:, None] + np.arange(time)
    mixed = np.flatnonzero((label[rows] != label[starts][:, None]).any(axis=1))
    if len(mixed):
        raise DataError(
            f"{path}: expected one label per window, found several in window "
            f"{window[starts[mixed[0]]]}"
        )
    return rows


def _recordings(path: Path, label: Names, time: int, stride: int) -> IntArray:
    """Cut lines into windows that hold one label each [n, time]."""
    borders = _runs(label)
    rows = [start + window_rows(int(end - start), time, stride) for start, end in pairwise(borders)]
    found = np.concatenate(rows)
    if not len(found):
        raise TooShortError(
            f"at most {int(np.diff(borders).max())} lines of one label after each other, and a "
            f"window has {time}"
        )
    return found


def _classes(path: Path, label: Names, shape: DataShape) -> IntArray:
    """Look up the numbers of labels."""
    # A name goes before a number, where the names are numbers themselves. Other programs write 2.0
    # for the 2 of a column that once had gaps.
    classes = {text: k for k in range(len(shape.class_names)) for text in (str(k), f"{k}.0")}
    classes |= {name: k for k, name in enumerate(shape.class_names)}
    unknown = sorted(set(label) - set(classes))
    if unknown:
        raise DataError(
            f"{path}: expected labels 0..{len(shape.class_names) - 1} or one of "
            f"{', '.join(shape.class_names)}, found {', '.join(unknown[:5])}"
            f"{hint(unknown[0], shape.class_names)}"
        )
    return np.array([classes[name] for name in label], np.int64)
