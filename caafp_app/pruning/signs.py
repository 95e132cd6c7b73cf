"""How the clients' updates agree in sign: the sum of w sign(u), at half the memory where it can be.

Whole weights below 2**31 in all, as example counts are, add up in 32-bit integers. Any other
weight widens the sums to `ReproducibleSum`. Both are exact, so the order of arrival does not show.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.pruning.reproducible import ReproducibleSum

SIGN_QUANTUM = -24  # that of the weights: w sign(u) is a multiple of it
_NARROW = 2**31


class SignSum:
    """The sum of ``w sign(u)`` over replies, shape [size]. For its methods see `sums.Sum`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._narrow: NDArray[np.int32] | None = np.zeros(size, dtype=np.int32)
        self._wide: ReproducibleSum | None = None
        self._total = 0  # of the weights, while narrow
        self._weight = 0.0  # of the reply that is being added

    def check(self, peak: float, weight: float) -> None:
        """Make sure that a reply of this weight can be added; a sign has no other size."""
        if not self._stays_narrow(weight):
            self._widened().check(weight)

    def admit(self, peak: float, weight: float) -> bool:
        """Announce a reply of this weight, whose signs will be `put` at all positions next."""
        self._weight = weight
        if self._stays_narrow(weight):
            self._total += int(weight)
            return True
        return self._widened().admit(weight)

    def put(
        self,
        part: slice,
        values: NDArray[np.float64],
        weighted: NDArray[np.float64],
        out: NDArray[np.float64],
        direct: bool,
    ) -> None:
        """Add the signs of one chunk of the update that `admit` announced; see `sums.Sum`."""
        signs = np.greater(values, 0).view(np.int8)  # a tenth of the time of `np.sign`
        signs -= np.less(values, 0).view(np.int8)
        if self._narrow is not None:
            block = self._narrow[part]
            block += signs * np.int32(self._weight)
        else:
            self._widened().put(part, signs * np.float64(self._weight), direct)

    def merge(self, other: Self) -> None:
        """Add another sum of the same size, exactly."""
        mine, theirs, total = self._narrow, other._narrow, self._total + other._total
        fits = self.size == other.size and total < _NARROW
        if fits and mine is not None and theirs is not None:
            mine += theirs
            self._total = total
        else:
            self._widened().merge(other._as_wide())

    @property
    def value(self) -> NDArray[np.float64]:
        """The sum, float64 of shape [size]."""
        if self._narrow is not None:
            return self._narrow.astype(np.float64)
        return self._widened().value

    def read(self, part: slice) -> NDArray[np.float64]:
        """Return a part of `value`, as a copy."""
        if self._narrow is not None:
            return self._narrow[part].astype(np.float64)
        return self._widened().read(part)

    def state_dict(self) -> dict[str, NDArray[np.int64]]:
        """Return all there is to save: what `ReproducibleSum` saves."""
        return self._as_wide().state_dict()

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[np.int64]]) -> Self:
        """Build the sum that `state_dict` described."""
        restored = cls(0)
        restored._narrow, restored._wide = None, ReproducibleSum.from_state(state)
        restored.size = restored._wide.size
        return restored

    def _stays_narrow(self, weight: float) -> bool:
        whole = float(weight).is_integer()
        return self._narrow is not None and whole and self._total + weight < _NARROW

    def _widened(self) -> ReproducibleSum:
        """Go over to the wide sum for good."""
        if self._wide is None:
            self._wide, self._narrow = self._as_wide(), None
        return self._wide

    def _as_wide(self) -> ReproducibleSum:
        if self._narrow is None:
            return self._widened()
        quanta = self._narrow.astype(np.int64) << -SIGN_QUANTUM
        bound = self._total << -SIGN_QUANTUM
        scale = np.array([SIGN_QUANTUM, bound], dtype=np.int64)
        return ReproducibleSum.from_state({"quanta": quanta, "scale": scale})
