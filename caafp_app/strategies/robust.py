"""Means that a few liars cannot move: by coordinate, over the replies of one round of one cluster.

Yin, Chen, Ramchandran, Bartlett: "Byzantine-Robust Distributed Learning: Towards Optimal
Statistical Rates", ICML 2018. Every reply counts alike, whatever its examples: a count is as easily
made up as a weight.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.pruning.chunks import CHUNK, chunks

MEAN, TRIMMED_MEAN, MEDIAN = "mean", "trimmed-mean", "median"
AGGREGATIONS = (MEAN, TRIMMED_MEAN, MEDIAN)

TRIM = 0.2
"""Share of the replies that a trimmed mean leaves out at each end, rounded up."""


class HeldReplies:
    """The updates of one round, held until it ends: memory is linear in the number of replies.

    Parameters
    ----------
    rule : {"trimmed-mean", "median"}
    """

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self._values: list[NDArray[Any]] = []
        self._rest: list[NDArray[Any]] = []

    def add(self, values: NDArray[Any], rest: NDArray[Any]) -> None:
        """Hold one reply: its update of active weights [A] and of the rest [R]."""
        self._values.append(values)
        self._rest.append(rest)

    def move(self, values: NDArray[np.floating], rest: NDArray[np.floating]) -> None:
        """Add the estimates to two vectors [A] and [R] in place; without replies nothing."""
        if self._values:
            _move(values, self._values, self.rule)
            _move(rest, self._rest, self.rule)


def trimmed(count: int) -> int:
    """Return how many of `count` replies a trimmed mean leaves out at each end."""
    return min(math.ceil(TRIM * count), (count - 1) // 2)


def _move(vector: NDArray[np.floating], updates: Sequence[NDArray[Any]], rule: str) -> None:
    count = len(updates)
    cut = trimmed(count) if rule == TRIMMED_MEAN else (count - 1) // 2
    # Sorted, so that the order of arrival does not show; in pieces, so that no copy is large.
    width = max(1, CHUNK // count)
    for chunk in chunks(vector.size):
        for start in range(chunk.start, chunk.stop, width):
            part = slice(start, min(start + width, chunk.stop))
            block = np.stack([update[part] for update in updates]).astype(np.float64)
            block.sort(axis=0)
            vector[part] = vector[part] + block[cut : count - cut].mean(axis=0)
