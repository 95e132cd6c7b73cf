"""Sums of floating-point vectors that do not depend on the order in which they arrive.

Floating-point addition is not associative: two runs whose replies arrive in another order differ in
the last bits, and sooner or later in a weight that is pruned. Pre-rounded summation (Demmel &
Nguyen, "Fast Reproducible Floating-Point Summation", ARITH 2013) rounds each term to a multiple of
one fixed quantum ``2**q`` first, so that all additions are exact.

A term is rounded by adding ``1.5 * 2**(52 + q)`` in float64: the bits of that sum, read as an
integer, are those of the constant plus the term in quanta. The constants stay in the sum, modulo
2**64, until it is read.
"""

import math
from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.vectors.chunks import CHUNK, chunks
from caafp_app.vectors.scan import peak_of

WEIGHT_QUANTUM = 24  # weights are multiples of 2**-24
_LARGEST_WEIGHT = 2.0**80
_LIMIT = 2**62  # of sums, in quanta
_CARRIED = 32  # bits from one level of a sum to the next
_LEVELS = 3  # above the first


def largest_magnitude(values: NDArray[np.floating], size: int, known: float | None = None) -> float:
    """Return ``max |values|``, or `known` if it is told, and refuse what must not enter a sum.

    Raises ProtocolError if ``values`` is not a vector of floats [size] or holds NaN or infinity.
    """
    if values.shape != (size,) or values.dtype.kind != "f":
        raise ProtocolError(
            f"expected a vector of {size} floats, found {values.dtype} of shape {values.shape}"
        )
    return peak_of(values) if known is None else known


def rounded_weight(weight: float) -> float:
    """Round a weight to a multiple of 2**-24, so that totals of weights are exact; counts stay.

    Raises ProtocolError if the weight is not in [2**-24, 2**80).
    """
    if not (np.isfinite(weight) and 2.0**-WEIGHT_QUANTUM <= weight < _LARGEST_WEIGHT):
        raise ProtocolError(
            f"expected a weight of at least 2**-24 and less than 2**80, found {weight}"
        )
    return float(np.ldexp(np.rint(np.ldexp(weight, WEIGHT_QUANTUM)), -WEIGHT_QUANTUM))


class ReproducibleSum:
    """The weighted sum of vectors, the same bits in whatever order they are added.

    Law: what is read is the sum of ``rint(weight * values / 2**q) * 2**q`` over all additions,
    exact and rounded once to float64, with q the `quantum`. It is therefore within ``2**(q - 1)``
    per addition of the true sum, beside the rounding of the products. Memory is 8 bytes per
    element.

    A sum that reaches ``2**(62 + q)`` is carried into another, whose quantum is ``2**(q + 32)``,
    with 8 bytes more per element. An addition whose largest term is ``2**(61 + q)`` or more is
    rounded to that coarser quantum in the first place: which one, its own size says. There are up
    to three such levels; what exceeds them is refused.
    """

    def __init__(self, size: int, quantum: int, levels: int = _LEVELS) -> None:
        self.size = size
        self.quantum = quantum
        self.levels = levels
        self._above: ReproducibleSum | None = None
        self._quanta = np.zeros(size, dtype=np.int64)
        self._bound = 0  # of the sum at any position, in quanta
        self._shifter = np.float64(1.5 * 2.0 ** (52 + quantum))
        self._shifted = 0  # how many shifters are in the quanta
        self._small = False  # whether the terms that come next are within the shifter's range

    def add(
        self, values: NDArray[np.floating], weight: float = 1.0, peak: float | None = None
    ) -> None:
        """Add ``weight * values`` [size], with any finite weight; `peak` is ``max |values|``.

        Raises ProtocolError if the length is wrong, a value is not finite, or the sum would become
        too large; nothing has been added then.
        """
        level = self.level_for(largest_magnitude(values, self.size, peak) * abs(weight))
        scratch = np.empty(min(CHUNK, self.size), dtype=np.float64)
        for part in chunks(self.size):
            terms = scratch[: part.stop - part.start]
            np.copyto(terms, values[part])
            terms *= weight
            level.put(part, terms)

    def add_at(
        self, index: NDArray[np.integer], values: NDArray[np.floating], weight: float = 1.0
    ) -> None:
        """Add ``weight * values`` [m] at the positions ``index`` [m]; otherwise as `add`.

        The index has to increase strictly, within [0, size).
        """
        if index.ndim != 1 or index.dtype.kind not in "iu":
            raise ProtocolError(
                f"expected a vector of positions, found {index.dtype} of shape {index.shape}"
            )
        if index.size and not (
            int(index[0]) >= 0 and int(index[-1]) < self.size and (index[1:] > index[:-1]).all()
        ):
            raise ProtocolError(f"expected strictly increasing positions in [0, {self.size})")
        largest = largest_magnitude(values, index.size)
        level = self._room_for(largest * abs(weight))
        level._quanta[index] += level._rounded(values.astype(np.float64) * weight)

    def check(self, peak: float) -> None:
        """Make sure that terms of magnitude up to ``peak`` can be added, or raise ProtocolError."""
        if self._is_coarse(peak):
            if self._above is not None:  # an empty one has room
                self._above.check(peak)
            return
        if not self._fits(peak):
            self._tighten()
        if not self._fits(peak):
            self._carry()

    def level_for(self, peak: float) -> "ReproducibleSum":
        """Make room for terms of magnitude up to ``peak``.

        Return the level to `put` them into, once at each position. Raises ProtocolError if they are
        too large; nothing has changed then.
        """
        level = self._room_for(peak)
        level._small = peak < 2.0 ** (50 + level.quantum)
        level._shifted += level._small
        return level

    def put(self, part: slice, terms: NDArray[np.float64]) -> None:
        """Add one chunk of terms that `level_for` has made room for; ``terms`` is scratch."""
        if self._small:
            terms += self._shifter
            self._quanta[part] += terms.view(np.int64)
        else:
            self._quanta[part] += self._rounded(terms)

    def merge(self, other: Self) -> None:
        """Add another sum: exactly what adding each of its terms would give, in any order.

        Raises ProtocolError if size or quantum differ or the sum would become too large; nothing
        has been added then.
        """
        if (other.size, other.quantum) != (self.size, self.quantum):
            raise ProtocolError(
                f"expected a sum of {self.size} values in steps of 2**{self.quantum} to merge, "
                f"found {other.size} in steps of 2**{other.quantum}"
            )
        for settle in (ReproducibleSum._tighten, ReproducibleSum._carry):
            if self._bound + other._bound >= _LIMIT:
                settle(self)
                settle(other)
        if other._above is not None:
            self._coarser().merge(other._above)
        self._bound += other._bound
        self._quanta += other._quanta
        self._shifted += other._shifted

    def read(self, part: slice, carried: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return a part of the sum, float64, as a copy; with what a lower level carries."""
        quanta = self._settled()[part] + (0 if carried is None else carried)
        if self._above is None:
            value: NDArray[np.float64] = np.multiply(quanta, 2.0**self.quantum, dtype=np.float64)
            return value
        # The same split of the same sum, however much was carried before.
        value = self._above.read(part, quanta >> _CARRIED)
        quanta &= 2**_CARRIED - 1
        value += np.multiply(quanta, 2.0**self.quantum, dtype=np.float64)
        return value

    def state_dict(self) -> dict[str, NDArray[np.int64]]:
        """Return all there is to save: ``quanta`` [levels, size] and ``scale`` [1 + levels]."""
        levels: list[ReproducibleSum] = [self]
        while levels[-1]._above is not None:
            levels.append(levels[-1]._above)
        return {
            "quanta": np.stack([level._settled() for level in levels]),
            "scale": np.array([self.quantum, *(level._bound for level in levels)], dtype=np.int64),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[np.int64]]) -> Self:
        """Build the sum that `state_dict` described."""
        rows = np.atleast_2d(state["quanta"])
        first = cls(rows.shape[1], int(state["scale"][0]))
        level: ReproducibleSum = first
        for number, (row, bound) in enumerate(zip(rows, state["scale"][1:], strict=True)):
            level = level._coarser() if number else level
            level._quanta[:] = row
            level._bound = int(bound)
        return first

    def _is_coarse(self, peak: float) -> bool:
        """Tell whether terms are for the level above; refuse what none of them can take."""
        if not peak < 2.0 ** (61 + self.quantum + _CARRIED * self.levels):
            raise self._overflow(peak)
        return peak >= 2.0 ** (61 + self.quantum)

    def _overflow(self, peak: float) -> ProtocolError:
        largest = 2.0 ** (61 + self.quantum + _CARRIED * self.levels)
        return ProtocolError(
            f"expected terms of a sum below {largest:.3g}, found {peak:.3g}: did training diverge?"
        )

    def _coarser(self) -> "ReproducibleSum":
        if self._above is None:
            if not self.levels:
                raise self._overflow(math.inf)
            above = self.quantum + _CARRIED
            self._above = ReproducibleSum(self.size, above, self.levels - 1)
        return self._above

    def _carry(self) -> None:
        """Move all but the last bits to the level above; the sum is the same."""
        above, carried = self._coarser(), self._settled() >> _CARRIED
        most = _largest(carried)
        above.check(float(np.ldexp(most, above.quantum)))
        above._bound += most
        above._quanta += carried
        self._quanta -= carried << _CARRIED
        self._bound = 2**_CARRIED

    def _fits(self, peak: float) -> bool:
        return peak < 2.0 ** (62 + self.quantum) - self._bound * 2.0**self.quantum

    def _tighten(self) -> None:
        """Read the bound off the sum: the largest terms were not all at one position."""
        self._bound = _largest(self._settled())

    def _rounded(self, terms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Round terms to whole numbers of quanta, half to even."""
        return np.rint(terms * 2.0**-self.quantum).astype(np.int64)

    def _room_for(self, peak: float) -> "ReproducibleSum":
        if self._is_coarse(peak):
            return self._coarser()._room_for(peak)
        self.check(peak)
        self._bound += int(np.ceil(np.ldexp(peak, -self.quantum)))
        return self

    def _settled(self) -> NDArray[np.int64]:
        """Return the quanta alone; the shifters that came with them are taken out."""
        if self._shifted:
            excess = self._shifted * int(self._shifter.view(np.int64)) % 2**64
            self._quanta.view(np.uint64)[:] -= np.uint64(excess)
            self._shifted = 0
        return self._quanta


def _largest(quanta: NDArray[np.int64]) -> int:
    return max(int(quanta.max(initial=0)), -int(quanta.min(initial=0)))
