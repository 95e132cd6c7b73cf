"""What clients say in numbers, as far as it is believed: one of them decides no mean alone.

What a figure is, only its name tells. A share beyond 1, or a loss beyond `MOST_LOSS`, is a lie
and left out. The metrics that a user's own function aggregates are bounded as sums are, where the
run is `robust`: see `pruning.influence`.
"""

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from flwr.app import MetricRecord
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.pruning.bounds import capped
from caafp_app.pruning.influence import ENOUGH
from caafp_app.runs.records import MOST_EXAMPLES, MOST_LOSS

MOST_TIMES = 10.0
"""A metric counts up to so many times the median of the clients, in size."""

_SHARES = "acc", "f1"


def believed(name: str, said: Mapping[str, float]) -> dict[str, float]:
    """Return the values of a figure that can be, by label; others are not known.

    Accuracies are shares, or percentages if most of them are above 1.
    """
    known = {label: value for label, value in said.items() if math.isfinite(value)}
    if _is_share(name) and known:
        top = _top(statistics.median_low(known.values()))
        return {label: value for label, value in known.items() if 0 <= value <= top}
    if "loss" in name.lower():
        return {label: value for label, value in known.items() if abs(value) <= MOST_LOSS}
    return known


def bounded(metrics: Sequence[MetricRecord], weighted_by: str) -> list[MetricRecord]:
    """Return the metrics of clients, of the same names and lengths, bounded.

    None then moves a mean, weighted by `weighted_by`, far. A client weighs at most as much as the
    median one. Any other number is at most `MOST_TIMES` as large as the median one, or 1 if that is
    more; a share stays one. In the place of NaN and infinity, which one client could make of the
    mean, comes the median. Fewer than `ENOUGH` clients have no median: theirs stay as they are.
    """
    if len(metrics) < ENOUGH:
        return list(metrics)
    made = [MetricRecord(dict(one)) for one in metrics]
    for name in metrics[0]:
        rows = np.array([np.atleast_1d(one[name]) for one in metrics], dtype=np.float64)
        if name == weighted_by and rows.shape[1] == 1:
            rows = np.array(capped([float(value) for value in rows[:, 0]]))[:, None]
        else:
            rows = _bounded(name, rows)
        for one, row in zip(made, rows, strict=True):
            old = one[name]
            if isinstance(old, list):
                one[name] = [float(value) for value in row]
            elif row[0] != old:
                one[name] = float(row[0])
    return made


def class_counts(
    metrics: MetricRecord, model: str, classes: int, examples: float
) -> NDArray[np.int64] | None:
    """Return how many windows of each class a client's model takes for each [classes, classes].

    ``<model>-confusion`` of its metrics, or of another's app ``confusion``, is row after row, the
    classes, what they are taken for. `model` is ``cluster`` or ``personal``; `examples` are the
    held-out windows that the client says it has. None where it tells nothing.

    Raises ProtocolError if they are not whole numbers from 0 on, not so many, or do not add up to
    `examples`.
    """
    told = metrics.get(f"{model}-confusion", metrics.get("confusion"))
    if told is None:
        return None
    if (
        not isinstance(told, list)
        or len(told) != classes**2
        or any(type(one) is not int or one < 0 for one in told)
        or sum(told) != examples
        or examples > MOST_EXAMPLES
    ):
        raise ProtocolError(
            f"expected {classes} x {classes} whole numbers from 0 on that add up to {examples:g} "
            "windows, found others"
        )
    return np.array(told, np.int64).reshape(classes, classes)


def usual(counts: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
    """Return the counts without those of more than `MOST_TIMES` the median client's windows.

    Fewer than `ENOUGH` clients have no median: all stay.
    """
    if len(counts) < ENOUGH:
        return dict(counts)
    most = MOST_TIMES * statistics.median(int(one.sum()) for one in counts.values())
    return {label: one for label, one in counts.items() if one.sum() <= most}


def _bounded(name: str, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bound values [n, k] of n clients, each of the k places by itself."""
    known = np.where(np.isfinite(rows), rows, np.nan)
    for place in range(rows.shape[1]):
        column = known[:, place]
        finite = column[np.isfinite(column)]
        if 2 * finite.size <= column.size:  # so it is of most clients
            known[:, place] = rows[:, place]
            continue
        middle = float(np.median(finite))
        most = max(MOST_TIMES * float(np.median(np.abs(finite))), 1.0)
        low, high = (0.0, _top(middle)) if _is_share(name) and middle >= 0 else (-most, most)
        known[:, place] = np.clip(np.where(np.isnan(column), middle, column), low, high)
    return known


def _is_share(name: str) -> bool:
    return any(word in name.lower() for word in _SHARES)


def _top(middle: float) -> float:
    return 1.0 if middle <= 1 else 100.0
