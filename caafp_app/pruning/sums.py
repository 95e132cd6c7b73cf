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


class TermSum(ABC):
    """The sum over replies of ``term(u, w)``, w a reply's weight and u [size] its update.

    `weight` is w of the reply that is being added.
    """

    quantum: ClassVar[int]
    """Exponent q of the quantum ``2**q`` that terms are rounded to; sums stay below 2**(62 + q)."""

    def __init__(self, size: int) -> None:
        self.total = ReproducibleSum(size, self.quantum)
        self.weight = 0.0

    @abstractmethod
    def largest(self, peak: float, weight: float) -> float:
        """Return the largest magnitude of a term, given ``max |u|`` and w."""

    @abstractmethod
    def term(self, values: Vector, weighted: Vector, out: Vector) -> Vector:
        """Return the terms of one chunk [n] in `out`; given u and w u, which must stay as is."""


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
    """The sum of ``w sign(u)``."""

    quantum = -24  # that of the weights, of which all terms are multiples

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
        if one.total.size != mean.size:
            raise MaskUpdateError(f"expected sums of {mean.size} weights, found {one.total.size}")
    weight = rounded_weight(weight)
    peak = largest_magnitude(update, mean.size, peak)
    totals = [
        (mean.total, peak * weight),
        *((one.total, one.largest(peak, weight)) for one in sums),
    ]
    for total, largest in totals:
        total.check(largest)
    level, *levels = [total.level_for(largest) for total, largest in totals]
    for one in sums:
        one.weight = weight
    scratch = np.empty((3, min(CHUNK, mean.size)), dtype=np.float64)
    for part in chunks(mean.size):
        values, weighted, out = scratch[:, : part.stop - part.start]
        np.copyto(values, update[part])
        np.multiply(values, weight, out=weighted)
        for one, its in zip(sums, levels, strict=True):
            its.put(part, one.term(values, weighted, out))
        level.put(part, weighted)
    mean.count(weight)
