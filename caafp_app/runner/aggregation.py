"""How the mean of the updates is taken: exactly, or so that a few liars cannot move it.

An aggregation is registered by name (`caafp_app.registry.AGGREGATIONS`).

Yin, Chen, Ramchandran, Bartlett: "Byzantine-Robust Distributed Learning: Towards Optimal
Statistical Rates", ICML 2018. Every reply counts alike in the robust ones, whatever its examples: a
count is as easily made up as a weight.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.vectors.chunks import CHUNK, chunks

TRIM = 0.2
"""Share of the replies that a trimmed mean leaves out at each end, rounded up."""

Vector = NDArray[np.float64]
Updates = Sequence[tuple[NDArray[Any], NDArray[Any]]]
"""Of each reply, the update of active weights [A] and of the rest [R]."""


def _sums(updates: Updates) -> tuple[Vector, Vector]:
    raise NotImplementedError("the mean is taken from sums, as replies come")


@dataclass(frozen=True)
class Aggregation:
    """How one update is made of many.

    Attributes
    ----------
    holds : bool
        Whether the replies of a round are held until it ends: memory is then linear in their
        number. Else the exact weighted mean is taken as they come.
    estimate : callable
        From the held `Updates` to one of each: [A] and [R], float64.
    """

    holds: bool = False
    estimate: Callable[[Updates], tuple[Vector, Vector]] = _sums


def by_coordinate(cut: Callable[[int], int]) -> Aggregation:
    """Return the mean, weight by weight, without the `cut(n)` least and largest of n replies."""

    def estimate(updates: Updates) -> tuple[Vector, Vector]:
        left = cut(len(updates))
        values = _estimate([values for values, _ in updates], left)
        return values, _estimate([rest for _, rest in updates], left)

    return Aggregation(holds=True, estimate=estimate)


def trimmed(count: int) -> int:
    """Return how many of `count` replies a trimmed mean leaves out at each end."""
    return min(math.ceil(TRIM * count), (count - 1) // 2)


def _estimate(updates: Sequence[NDArray[Any]], cut: int) -> Vector:
    count, size = len(updates), updates[0].size
    found = np.empty(size)
    # Sorted, so that the order of arrival does not show; in pieces, so that no copy is large.
    width = max(1, CHUNK // count)
    for chunk in chunks(size):
        for start in range(chunk.start, chunk.stop, width):
            part = slice(start, min(start + width, chunk.stop))
            block = np.stack([update[part] for update in updates]).astype(np.float64)
            block.sort(axis=0)
            found[part] = block[cut : count - cut].mean(axis=0)
    return found


mean = Aggregation()
trimmed_mean = by_coordinate(trimmed)
median = by_coordinate(lambda count: (count - 1) // 2)
