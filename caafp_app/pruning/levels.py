"""Nested parts of one model, for devices of different strength, and what all of them say together.

A level is a share of the model, 1 for the strongest devices. Each level's part lies in that of the
level before, so that every device trains weights that all stronger ones train too.
"""

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import MaskUpdateError, SettingsError
from caafp_app.pruning.evidence import SIGNS, Evidence
from caafp_app.vectors.largest import largest

Vector = NDArray[np.float64]
_SHARE = re.compile(r"0?\.\d+|1(?:\.0*)?", re.ASCII)
_MOST = 8


def parse_levels(text: str) -> tuple[float, ...]:
    """Return the shares in a text such as ``"1,0.5,0.25"``.

    Raises SettingsError if they are no falling numbers from 1 on, above 0, or more than eight.
    """
    words = [word.strip() for word in text.split(",")]
    shares = tuple(float(word) for word in words if _SHARE.fullmatch(word))
    falling = all(few < many for many, few in pairwise(shares))
    if len(shares) != len(words) or len(words) > _MOST or shares[0] != 1.0 or not falling:
        raise SettingsError(
            f'levels: expected at most {_MOST} falling shares that begin with 1, as "1,0.5,0.25", '
            f"found {text!r}"
        )
    if shares[-1] == 0.0:
        raise SettingsError(f"levels: expected shares above 0, found {text!r}")
    return shares


def level_of(shares: Sequence[float], strength: float) -> int:
    """Return the widest level that a device can take: the first share of at most `strength`.

    A device below all of them takes the last one.
    """
    fitting = (level for level, share in enumerate(shares) if share <= strength + 1e-9)
    return next(fitting, len(shares) - 1)


def nested_masks(
    bits: NDArray[np.bool_],
    scores: NDArray[np.floating],
    segments: Sequence[slice],
    shares: Sequence[float],
) -> list[NDArray[np.bool_]]:
    """Return a mask [P] for each share in (0, 1]: the best of each layer's active weights.

    Law: of a layer's a active weights a level has ``max(floor(share a + 1/2), min(1, a))``, and
    each mask lies in that of any larger share. Ties go to the lower index. `bits` [P] is the mask
    of the whole model, `scores` [P] are read at active weights only.
    """
    if bits.shape != scores.shape:
        raise MaskUpdateError(f"expected scores of {bits.size} weights, found {scores.shape}")
    masks = [np.zeros_like(bits) for _ in shares]
    for layer in segments:
        place = layer.start + np.flatnonzero(bits[layer])
        for mask, share in zip(masks, shares, strict=True):
            count = max(int(share * place.size + 0.5), min(1, place.size))
            mask[place[largest(scores[place], count)]] = True
    return masks


class PooledEvidence(Evidence):
    """The evidence of several levels, weight by weight: read only.

    A weight that few devices have is known from few replies, whose variance is too small and whose
    signs agree too well by chance. Both are corrected for the number of replies. With n replies of
    a round and level, of weight W:

    - variance: the scatter of all levels over ``sum W (1 - 1 / n)``;
    - sign agreement K of N replies in all: ``sqrt(max((N K^2 - 1) / (N - 1), 0))``, whose square is
      unbiased for replies of equal weight.

    A weight of which this cannot be said has the median of its layer. `parts` are each level's
    evidence, and the places of its active weights among those, `size`, of the whole model.
    """

    def __init__(self, size: int, parts: Sequence[tuple[Evidence, NDArray[np.intp]]]) -> None:
        super().__init__(size)
        self._parts = [(evidence, place) for evidence, place in parts if evidence.replies]
        self.replies = sum(evidence.replies for evidence, _ in self._parts)
        self._means: dict[str, Vector] = {}

    def variance(self, part: slice) -> Vector:
        """Return the variance of the updates within rounds and levels [part]."""
        return _filled(self._variance[part])

    def sign_agreement(self, part: slice) -> Vector:
        """Return ``|mean sign|``, corrected for the number of replies, in [0, 1] [part]."""
        return _filled(self._agreement[part])

    def mean_of(self, name: str, part: slice) -> Vector:
        """Return a registered sum divided by the weight of all replies [part]; zeros without."""
        if name not in self._means:
            total = self._added(lambda one: one.mean_of(name, slice(0, one.size)) * one.weight)
            self._means[name] = np.divide(total, self._weights, where=self._weights > 0, out=total)
        return self._means[name][part].copy()

    @cached_property
    def _weights(self) -> Vector:
        return self._added(lambda one: one.weight)

    @cached_property
    def _variance(self) -> Vector:
        scatter = self._added(lambda one: one.variance(slice(0, one.size)) * one.weight)
        return _divided(scatter, self._added(lambda one: one.freedom))

    @cached_property
    def _agreement(self) -> Vector:
        mean = self.mean_of(SIGNS, slice(0, self.size))
        replies = self._added(lambda one: one.replies)
        squared = np.maximum(replies * mean * mean - 1.0, 0.0)
        return np.sqrt(_divided(squared, replies - 1.0))

    def _added(self, of: Callable[[Evidence], Vector | float]) -> Vector:
        total = np.zeros(self.size)
        for evidence, place in self._parts:
            total[place] += of(evidence)
        return total


def _divided(values: Vector, by: Vector) -> Vector:
    """Return the quotient, NaN where the divisor is not positive."""
    return np.divide(values, by, out=np.full_like(values, np.nan), where=by > 0)


def _filled(values: Vector) -> Vector:
    known = values[~np.isnan(values)]
    return np.nan_to_num(values, nan=float(np.median(known)) if known.size else 0.0)
