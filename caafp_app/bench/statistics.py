"""Means over seeds, and paired differences with confidence intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean and the standard deviation of the sample (divided by n - 1; NaN for one value)."""

    mean: float
    deviation: float
    n: int


@dataclass(frozen=True)
class Paired:
    """The mean of n differences, and its 95 % confidence interval by Student's t.

    mean +- t(0.975, n - 1) s / sqrt(n), s the standard deviation (divided by n - 1); NaN bounds for
    n = 1. `wins` counts the differences above 0.
    """

    mean: float
    low: float
    high: float
    n: int
    wins: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0.0 or self.high < 0.0


def mean_of(values: Sequence[float | None]) -> Mean | None:
    """Return mean and deviation of the values that are known; None if there are none."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if not known.size:
        return None
    deviation = float(known.std(ddof=1)) if known.size > 1 else math.nan
    return Mean(float(known.mean()), deviation, int(known.size))


def paired(differences: Sequence[float]) -> Paired | None:
    """Return the mean difference and its confidence interval; None without a pair."""
    found = np.array(differences, dtype=np.float64)
    n = int(found.size)
    if n == 0:
        return None
    mean, wins = float(found.mean()), int((found > 0).sum())
    if n == 1:
        return Paired(mean, math.nan, math.nan, n, wins)
    from scipy.stats import t

    half = float(t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * float(found.std(ddof=1)) / math.sqrt(n)
    return Paired(mean, mean - half, mean + half, n, wins)


def by_seed(ours: Mapping[int, float | None], theirs: Mapping[int, float | None]) -> list[float]:
    """Return ours minus theirs for each seed that both know, seeds ascending."""
    return [
        mine - other
        for seed in sorted(ours.keys() & theirs.keys())
        if (mine := ours[seed]) is not None and (other := theirs[seed]) is not None
    ]


def by_client(
    ours: Mapping[int, Mapping[str, float]], theirs: Mapping[int, Mapping[str, float]]
) -> list[float]:
    """Return one difference per client: the mean over seeds of ours minus theirs, given by label.

    The seeds of one client are repeated measurements of it, not further clients: they are averaged
    first, so that n is the number of clients. A client counts if both know it in a seed that both
    ran.
    """
    found: dict[str, list[float]] = {}
    for seed in sorted(ours.keys() & theirs.keys()):
        for label in sorted(ours[seed].keys() & theirs[seed].keys()):
            found.setdefault(label, []).append(ours[seed][label] - theirs[seed][label])
    return [float(np.mean(found[label])) for label in sorted(found)]
