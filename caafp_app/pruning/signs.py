"""How the clients' updates agree in sign: the sum of w sign(u), in little memory.

Whole weights below 2**31 in all, as example counts are, add up in 32-bit integers. Any other weight
widens the sums to `ReproducibleSum`. Both are exact.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.pruning.reproducible import ReproducibleSum
from caafp_app.pruning.sums import State, TermSum, Vector

_NARROW = 2**31


class SignSum(TermSum):
    """The sum of ``w sign(u)`` over replies, shape [size]."""

    quantum = -24  # that of the weights: w sign(u) is a multiple of it

    def __init__(self, size: int) -> None:
        super().__init__(0)
        self.size = size
        self._narrow: NDArray[np.int32] | None = np.zeros(size, dtype=np.int32)
        self._weights = 0  # of all replies, while narrow
        self._weight = 0.0  # of the reply that is being added

    def largest(self, peak: float, weight: float) -> float:
        """Return w: a sign has no other size."""
        return weight

    def term(self, values: Vector, weighted: Vector, out: Vector) -> Vector:
        """Return ``w sign(u)``."""
        return np.multiply(_signs(values), self._weight, out=out)

    def check(self, peak: float, weight: float) -> None:
        """Make sure that a reply of this weight can be added; the sum stays below 2**38."""
        if not self._stays_narrow(weight):
            self._widen()
            super().check(peak, weight)

    def admit(self, peak: float, weight: float) -> int:
        """Announce a reply of this weight, whose signs will be `put` at all positions next."""
        self._weight = weight
        if self._stays_narrow(weight):
            self._weights += int(weight)
            return 1
        self._widen()
        return super().admit(peak, weight)

    def put(self, part: slice, values: Vector, weighted: Vector, out: Vector, way: int) -> None:
        """Add the signs of one chunk of the update that `admit` announced."""
        if self._narrow is None:
            super().put(part, values, weighted, out, way)
        else:
            block = self._narrow[part]
            block += _signs(values) * np.int32(self._weight)

    def read(self, part: slice) -> Vector:
        """Return a part of the sum, float64, as a copy."""
        if self._narrow is not None:
            return self._narrow[part].astype(np.float64)
        return super().read(part)

    def merge(self, other: Self) -> None:
        """Add another sum of the same size, exactly; it is left as it is."""
        mine, theirs, weights = self._narrow, other._narrow, self._weights + other._weights
        fits = self.size == other.size and weights < _NARROW
        if fits and mine is not None and theirs is not None:
            mine += theirs
            self._weights = weights
        else:
            self._widen()
            self.total.merge(other._wide())

    def state_dict(self) -> dict[str, NDArray[np.int64]]:
        """Return all there is to save: what `ReproducibleSum` saves."""
        return self._wide().state_dict()

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Build the sum that `state_dict` described."""
        restored = super().from_state(state)
        restored._narrow = None
        return restored

    def _stays_narrow(self, weight: float) -> bool:
        whole = float(weight).is_integer()
        return self._narrow is not None and whole and self._weights + weight < _NARROW

    def _widen(self) -> None:
        """Go over to the wide sum for good."""
        self.total, self._narrow = self._wide(), None

    def _wide(self) -> ReproducibleSum:
        if self._narrow is None:
            return self.total
        quanta = self._narrow.astype(np.int64) << -self.quantum
        scale = np.array([self.quantum, self._weights << -self.quantum], dtype=np.int64)
        return ReproducibleSum.from_state({"quanta": quanta, "scale": scale})


def _signs(values: Vector) -> NDArray[np.int8]:
    signs = np.greater(values, 0).view(np.int8)  # a tenth of the time of `np.sign`
    signs -= np.less(values, 0).view(np.int8)
    return signs
