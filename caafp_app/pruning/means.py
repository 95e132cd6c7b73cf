"""Weighted means over clients, kept as sums, so that each reply is let go at once."""

import numpy as np
from numpy.typing import NDArray

from caafp_app.pruning.reproducible import WEIGHT_QUANTUM, ReproducibleSum, rounded_weight
from caafp_app.vectors.chunks import chunks

# Quanta: fine against a client's usual values, while 2**62 of them fit into the first level.
UPDATE_QUANTUM = -36  # steps of 1.5e-11, sums of w |u| up to 6.7e7
GRADIENT_QUANTUM = -30  # steps of 9.3e-10, sums of w |g| up to 4.3e9


class WeightedMean:
    """The weighted mean of vectors u: ``sum w u``, ``sum w`` and the number of replies.

    `quantum` is the exponent of the quantum of ``w u``; see `ReproducibleSum`.
    """

    def __init__(self, size: int, quantum: int = UPDATE_QUANTUM) -> None:
        self.total = ReproducibleSum(size, quantum)
        self._weight = 0  # in quanta of weights, of any size: a sum that is exact in any order
        self.replies = 0

    @property
    def size(self) -> int:
        """Length of the vectors."""
        return self.total.size

    @property
    def weight(self) -> float:
        """The sum of the replies' weights."""
        return self._weight / (1 << WEIGHT_QUANTUM)

    def add(self, values: NDArray[np.floating], weight: float, peak: float | None = None) -> None:
        """Add a reply [size] with the client's example count, or 1, as its weight.

        `peak` is ``max |values|``, if `peak_of` has told it. Raises ProtocolError if values or
        weight must not enter the sum; nothing has been added then.
        """
        weight = rounded_weight(weight)
        self.total.add(values, weight, peak)
        self.count(weight)

    def count(self, weight: float) -> None:
        """Count a reply whose values have been added to `total`."""
        self._weight += int(weight * (1 << WEIGHT_QUANTUM))
        self.replies += 1

    def mean(self) -> NDArray[np.float64]:
        """Return ``sum w u / sum w``, shape [size]; zeros when there were no replies."""
        mean = np.zeros(self.size)
        if self.replies:
            for part in chunks(self.size):
                np.divide(self.total.read(part), self.weight, out=mean[part])
        return mean


class GradientMean(WeightedMean):
    """The mean of sparse gradients over all P prunable weights; what was not sent counts as 0."""

    def __init__(self, size: int) -> None:
        super().__init__(size, GRADIENT_QUANTUM)

    def add_at(
        self, index: NDArray[np.integer], value: NDArray[np.floating], weight: float
    ) -> None:
        """Add a client's gradient [m], given at strictly increasing positions.

        Raises ProtocolError if positions, values or weight must not enter the sum; nothing has been
        added then.
        """
        weight = rounded_weight(weight)
        self.total.add_at(index, value, weight)
        self.count(weight)
