"""Sums of floating-point vectors that do not depend on the order in which they arrive.

Floating-point addition is not associative: two runs whose replies arrive in another order differ in
the last bits, and sooner or later in a weight that is pruned. Pre-rounded summation (Demmel &
Nguyen, "Fast Reproducible Floating-Point Summation", ARITH 2013) rounds each term to a multiple of
one fixed quantum ``2**q`` first, so that all additions are exact.

A term is rounded by adding ``1.5 * 2**(52 + q)`` in float64. The bits of that sum, read as an
integer, are those of the constant plus the term in quanta, hence one integer addition accumulates
it: three passes over cached data, about the cost of ``total += weight * values`` in numpy.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.vectors.chunks import CHUNK, chunks
from caafp_app.vectors.scan import peak_of

_WEIGHT_QUANTUM = 24  # weights are multiples of 2**-24
_LARGEST_WEIGHT = 2.0**38
_LIMIT = 2**62  # of sums, in quanta


def largest_magnitude(values: NDArray[np.floating], size: int, known: float | None = None) -> float:
    """Return ``max |values|`` (0 for an empty vector) and refuse what must not enter a sum.

    `known` is the answer, if `scan` has told it: the values are not looked at again. Raises
    ProtocolError if ``values`` is not a vector of floats of length ``size`` or holds NaN or
    infinity.
    """
    if values.shape != (size,) or values.dtype.kind != "f":
        raise ProtocolError(
            f"expected a vector of {size} floats, found {values.dtype} of shape {values.shape}"
        )
    return peak_of(values) if known is None else known


def rounded_weight(weight: float) -> float:
    """Round the weight of a reply to a multiple of 2**-24, so that totals of weights are exact.

    Weights are example counts, or 1: whole numbers stay what they are. Totals are exact up to
    2**29, those of whole numbers up to 2**53.

    Raises ProtocolError if the weight is not in [2**-24, 2**38).
    """
    if not (np.isfinite(weight) and 2.0**-_WEIGHT_QUANTUM <= weight < _LARGEST_WEIGHT):
        raise ProtocolError(
            f"expected a weight of at least 2**-24 and less than 2**38, found {weight}"
        )
    return float(np.ldexp(np.rint(np.ldexp(weight, _WEIGHT_QUANTUM)), -_WEIGHT_QUANTUM))


class ReproducibleSum:
    """The weighted sum of vectors, the same bits in whatever order they are added.

    Law: what is read is the sum of ``rint(weight * values / 2**q) * 2**q`` over all additions,
    exact and rounded once to float64, with q the `quantum`. It is therefore within ``2**(q - 1)``
    per addition of the true sum, beside the rounding of the products. Sums stay below ``2**(62 +
    q)``: what might exceed that is refused. Memory is 8 bytes per element.
    """

    def __init__(self, size: int, quantum: int) -> None:
        self.size = size
        self.quantum = quantum
        self._quanta = np.zeros(size, dtype=np.int64)
        self._bound = 0  # of the sum at any position, in quanta
        self._shifts = 0  # how often `_shifter` is in `_quanta`
        self._shifter = 1.5 * 2.0 ** (52 + quantum)

    def add(
        self, values: NDArray[np.floating], weight: float = 1.0, peak: float | None = None
    ) -> None:
        """Add ``weight * values``, of shape [size], with any finite weight.

        `peak` is ``max |values|``, if `scan` has told it: the values are not looked at again.
        Raises ProtocolError if the length is wrong, a value is not finite, or the sum would become
        too large; nothing has been added then.
        """
        direct = self.admit(largest_magnitude(values, self.size, peak) * abs(weight))
        scratch = np.empty(min(CHUNK, self.size), dtype=np.float64)
        for part in chunks(self.size):
            terms = scratch[: part.stop - part.start]
            np.copyto(terms, values[part])
            terms *= weight
            self.put(part, terms, direct)

    def add_at(
        self,
        index: NDArray[np.integer],
        values: NDArray[np.floating],
        weight: float = 1.0,
        peak: float | None = None,
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
        self._claim(largest_magnitude(values, index.size, peak) * abs(weight))
        terms = values.astype(np.float64) * weight
        self._quanta[index] += self._round(terms)

    def check(self, peak: float) -> None:
        """Make sure that terms of magnitude up to ``peak`` can be added, or raise ProtocolError."""
        if not self._fits(peak):
            self._tighten()
        if not self._fits(peak):
            raise ProtocolError(
                f"expected sums below {2.0 ** (62 + self.quantum):.3g}, found a reply with "
                f"terms of {peak:.3g}: refuse such a client, or use a coarser quantum than "
                f"2**{self.quantum}"
            )

    def admit(self, peak: float) -> bool:
        """Announce terms of magnitude up to ``peak``, for all positions, to be `put` next.

        Return what `put` takes as ``direct``. Raises ProtocolError if the sum would become too
        large; nothing has changed then.
        """
        self._claim(peak)
        direct = peak < 2.0 ** (50 + self.quantum)
        self._shifts += direct
        return direct

    def put(self, part: slice, terms: NDArray[np.float64], direct: bool) -> None:
        """Add one chunk of the terms that `admit` announced; ``terms`` is used as scratch."""
        block = self._quanta[part]
        if direct:
            terms += self._shifter
            np.add(block, terms.view(np.int64), out=block)
        else:
            np.add(block, self._round(terms), out=block)

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
        if self._bound + other._bound >= _LIMIT:
            self._tighten()
            other._tighten()
        if self._bound + other._bound >= _LIMIT:
            raise ProtocolError(
                f"expected sums below {2.0 ** (62 + self.quantum):.3g}, found two that might "
                f"exceed it together: use a coarser quantum than 2**{self.quantum}"
            )
        self._bound += other._bound
        self._shifts += other._shifts
        self._quanta += other._quanta

    def read(self, part: slice) -> NDArray[np.float64]:
        """Return a part of the sum, float64, as a copy."""
        quanta = self._quanta[part] - self._offset()
        value: NDArray[np.float64] = np.multiply(quanta, 2.0**self.quantum, dtype=np.float64)
        return value

    def state_dict(self) -> dict[str, NDArray[np.int64]]:
        """Return all there is to save: ``quanta`` [size] and ``scale`` [2]."""
        return {
            "quanta": self._settled().copy(),
            "scale": np.array([self.quantum, self._bound], dtype=np.int64),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[np.int64]]) -> Self:
        """Build the sum that `state_dict` described."""
        restored = cls(state["quanta"].size, int(state["scale"][0]))
        restored._quanta[:] = state["quanta"]
        restored._bound = int(state["scale"][1])
        return restored

    def _fits(self, peak: float) -> bool:
        return peak < 2.0 ** (62 + self.quantum) - self._bound * 2.0**self.quantum

    def _tighten(self) -> None:
        """Read the bound off the sum: the largest terms were not all at one position."""
        settled = self._settled()
        self._bound = max(int(settled.max(initial=0)), -int(settled.min(initial=0)))

    def _claim(self, peak: float) -> None:
        self.check(peak)
        self._bound += int(np.ceil(np.ldexp(peak, -self.quantum)))

    def _round(self, terms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Round to quanta, half to even like the shifter does, without its limit on the size."""
        return np.rint(terms * 2.0**-self.quantum).astype(np.int64)

    def _settled(self) -> NDArray[np.int64]:
        """Take the shifters out of the sum; integers wrap around, so nothing is lost meanwhile."""
        if self._shifts:
            self._quanta -= self._offset()
            self._shifts = 0
        return self._quanta

    def _offset(self) -> np.int64:
        """Return the sum of all shifters in `_quanta`, modulo 2**64."""
        bits = int(np.float64(self._shifter).view(np.int64)) * self._shifts
        return np.int64((bits + 2**63) % 2**64 - 2**63)
