"""What of a client's windows is trained on and what is held out.

Per class and in time order the first part is train, the last part test: a model is judged on what
comes after what it learnt from, as on a device. Windows of published sets overlap by half, so by
default the two at each border share half their samples; ``window-gap=1`` drops one and with it the
overlap.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from caafp_app.datasets.base import ClientData, IntArray
from caafp_app.settings import DataSettings


class Split(NamedTuple):
    """Rows of a client's windows, int64, ascending, no row in both.

    ``held_out`` is the test part, or the validation part when one was asked for.
    """

    train: IntArray
    held_out: IntArray


def held_out_count(windows: int, fraction: float) -> int:
    """Return how many of one class's windows are held out.

    ``int(fraction * n)``; 1 where that is 0 and n > 5; none where n < 2 (the authors' rule).
    """
    if windows < 2 or fraction <= 0.0:
        return 0
    # 1 - 0.8 is a little below 0.2, and a product below a whole number must not lose a window to
    # that.
    count = math.floor(fraction * windows + 1e-9)
    return 1 if count == 0 and windows > 5 else count


def split_by_class(
    labels: IntArray,
    *,
    train_fraction: float = 0.8,
    validation_fraction: float = 0.0,
    window_gap: int = 0,
    time: npt.NDArray[np.float64] | None = None,
) -> Split:
    """Divide a client's windows into train and held-out, class by class, in time order.

    `train_fraction` of each class comes before its test part. With a `validation_fraction` the last
    such share of that is held out *in place of* the test part, which then appears nowhere.
    `window_gap` windows are dropped before each held-out part, which stays the same. Without either
    every row is in exactly one part. `time` says when each window was recorded, float64 ``[n]``;
    None: in the order of the rows.
    """
    rows = np.arange(len(labels)) if time is None else np.argsort(time, kind="stable")
    train: list[IntArray] = []
    held_out: list[IntArray] = []
    for label in np.unique(labels):
        ordered = rows[labels[rows] == label]
        before, after = _cut(ordered, 1.0 - train_fraction, window_gap)
        if validation_fraction > 0.0:
            before, after = _cut(before, validation_fraction, window_gap)
        train.append(before)
        held_out.append(after)
    return Split(_ascending(train), _ascending(held_out))


def split_of(
    settings: DataSettings, labels: IntArray, time: npt.NDArray[np.float64] | None = None
) -> Split:
    """Divide a client's windows as the settings say: see `split_by_class`."""
    return split_by_class(
        labels,
        train_fraction=settings.train_fraction,
        validation_fraction=settings.validation_fraction,
        window_gap=settings.window_gap,
        time=time,
    )


def hold_out(data: ClientData, share: float, window_gap: int = 0) -> Split:
    """Divide a client's *training* windows: the last `share` in time of each class is held out.

    By the rules of `split_by_class`, so a class of five windows or fewer may have none to spare.
    What would leave nothing to train on holds nothing out. Rows are those of ``data.train_x``.
    """
    found = split_by_class(
        data.train_y, train_fraction=1.0 - share, window_gap=window_gap, time=data.train_time
    )
    if len(found.train):
        return found
    everything = np.arange(len(data.train_y))
    return Split(everything, everything[:0])


def _cut(ordered: IntArray, fraction: float, gap: int) -> tuple[IntArray, IntArray]:
    count = held_out_count(len(ordered), fraction)
    if count == 0:
        return ordered, ordered[:0]
    border = len(ordered) - count
    return ordered[: max(border - gap, 0)], ordered[border:]


def _ascending(parts: list[IntArray]) -> IntArray:
    return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
