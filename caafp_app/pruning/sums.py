"""Sums over clients of a function of each one's update, weight by weight.

A sum is registered by name (`caafp_app.registry.SUMS`); a query names the ones that it wants. To
add a sum, subclass `TermSum` and give a quantum, a bound and a term:

>>> class Cubes(TermSum):
...     '''The sum of w u^3.'''
...     quantum = -48
...     def largest(self, peak, weight):
...         return weight * peak**3
...     def term(self, values, weighted, out):
...         return np.multiply(values * values, weighted, out=out)

All sums are exact (see `reproducible`): the order of arrival does not show in them, and the sum of
two groups of replies is the sum over both.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import MaskUpdateError
from caafp_app.pruning.means import UPDATE_QUANTUM, WeightedMean
from caafp_app.pruning.reproducible import ReproducibleSum, largest_magnitude, rounded_weight
from caafp_app.registry import SUMS
from caafp_app.vectors.chunks import CHUNK, chunks

Vector = NDArray[np.float64]
_COUNTS = 2**31  # what 32 bits hold
_PIECE = CHUNK // 4  # three pieces of scratch fit into the cache of one processor


class TermSum(ABC):
    """The sum over replies of ``term(u, w)``, w a reply's weight and u [size] its update.

    `weight` is w of the reply that is being added.
    """

    quantum: ClassVar[int]
    """Exponent q of the quantum ``2**q`` that terms are rounded to; sums stay below 2**(62 + q)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.weight = 0.0
        self._sum = self._level = ReproducibleSum(size, self.quantum)

    @property
    def total(self) -> ReproducibleSum:
        """The sum over all replies so far."""
        return self._sum

    @abstractmethod
    def largest(self, peak: float, weight: float) -> float:
        """Return the largest magnitude of a term, given ``max |u|`` and w."""

    @abstractmethod
    def term(self, values: Vector, weighted: Vector, out: Vector) -> Vector:
        """Return the terms of one chunk [n] in `out`; given u and w u, which must stay as is."""

    def check(self, peak: float, weight: float) -> None:
        """Make sure that a reply can be added, or raise ProtocolError."""
        self._sum.check(self.largest(peak, weight))

    def open(self, peak: float, weight: float) -> None:
        """Make room for a reply, each chunk of which is `put` next."""
        self.weight = weight
        self._level = self._sum.level_for(self.largest(peak, weight))

    def put(self, part: slice, values: Vector, weighted: Vector, out: Vector) -> None:
        """Add one chunk of the reply that is open; u and w u stay as is, `out` is scratch."""
        self._level.put(part, self.term(values, weighted, out))


class Moves(TermSum):
    """The sum of ``w u``, over more rounds than one mean is of."""

    quantum = UPDATE_QUANTUM

    def largest(self, peak: float, weight: float) -> float:
        """Return ``w peak``."""
        return peak * weight

    def term(self, values: Vector, weighted: Vector, out: Vector) -> Vector:
        """Return ``w u``."""
        np.copyto(out, weighted)
        return out


class Squares(TermSum):
    """The sum of ``w u^2``."""

    quantum = -42  # steps of 2.3e-13, sums up to 1.0e6

    def largest(self, peak: float, weight: float) -> float:
        """Return ``w peak^2``."""
        return peak * weight * peak

    def term(self, values: Vector, weighted: Vector, out: Vector) -> Vector:
        """Return ``w u^2``."""
        return np.multiply(values, weighted, out=out)


class Signs(TermSum):
    """The sum of ``w sign(u)``.

    Whole weights, as example counts are, add up in 32 bits until the total is asked for: a long
    vector costs what memory it takes.
    """

    quantum = -24  # that of the weights, of which all terms are multiples

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._counts = np.zeros(size, dtype=np.int32)
        self._counted = 0  # the weights that are in the counts
        self._whole = False  # whether the open reply's is for them

    @property
    def total(self) -> ReproducibleSum:
        """The sum over all replies so far."""
        if self._counted:
            level = self._sum.level_for(self._counted)
            for part in chunks(self.size):
                level.put(part, self._counts[part].astype(np.float64))
            self._counts = np.zeros(self.size, dtype=np.int32)  # takes no memory yet
            self._counted = 0
        return self._sum

    def open(self, peak: float, weight: float) -> None:
        """Make room for a reply, in the counts if they can take its weight."""
        self._whole = weight.is_integer() and self._counted + weight < _COUNTS
        if self._whole:
            self.weight = weight
            self._counted += int(weight)
        else:
            super().open(peak, weight)

    def put(self, part: slice, values: Vector, weighted: Vector, out: Vector) -> None:
        """Add the signs of one chunk."""
        if not self._whole:
            super().put(part, values, weighted, out)
            return
        signs = np.greater(values, 0).view(np.int8)  # a tenth of the time of `np.sign`
        signs -= np.less(values, 0).view(np.int8)
        self._counts[part] += signs * np.int32(self.weight)

    def largest(self, peak: float, weight: float) -> float:
        """Return w."""
        return weight

    def term(self, values: Vector, weighted: Vector, out: Vector) -> Vector:
        """Return ``w sign(u)``."""
        return np.multiply(np.sign(values, out=out), self.weight, out=out)


def make_sums(names: Iterable[str], size: int) -> dict[str, TermSum]:
    """Return an empty sum of each registered name."""
    return {name: SUMS[name](size) for name in sorted(names)}


def accumulate(
    update: NDArray[np.floating],
    weight: float,
    mean: WeightedMean,
    sums: Collection[TermSum] = (),
    peak: float | None = None,
) -> None:
    """Add one reply to a round's mean and to other sums, in one pass.

    `update` [A] is at active positions, `weight` the client's example count, or 1; `peak` is ``max
    |update|``, if `peak_of` has told it.

    Raises ProtocolError if the length is wrong, a value is not finite, the weight is not positive,
    or the values are absurdly large. Nothing has been added then.
    """
    if not sums:
        mean.add(update, weight, peak)
        return
    for one in sums:
        if one.size != mean.size:
            raise MaskUpdateError(f"expected sums of {mean.size} weights, found {one.size}")
    weight = rounded_weight(weight)
    peak = largest_magnitude(update, mean.size, peak)
    mean.total.check(peak * weight)
    for one in sums:
        one.check(peak, weight)
    level = mean.total.level_for(peak * weight)
    for one in sums:
        one.open(peak, weight)
    scratch = np.empty((3, min(_PIECE, mean.size)), dtype=np.float64)
    for part in chunks(mean.size, _PIECE):
        values, weighted, out = scratch[:, : part.stop - part.start]
        np.copyto(values, update[part])
        np.multiply(values, weight, out=weighted)
        for one in sums:
            one.put(part, values, weighted, out)
        level.put(part, weighted)
    mean.count(weight)
