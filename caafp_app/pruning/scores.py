"""How important each active weight of a cluster's model is.

The paper (CA-AFP, arXiv 2603.01739) adds magnitude, coherence and consistency, each per layer; the
formulas are in ARCHITECTURE.md. All clients start from the same weights, so that the variance of
their weights is that of the updates.

A score is registered by name (`caafp_app.registry.SCORES`): the sums that it needs, and a function
of them. A package outside adds one with a file like this:

>>> def _gain(weights, evidence, layer):
...     return lambda part: np.abs(weights[part]) * evidence.sign_agreement(part)
>>> gain = Score(needs=("signs",), of=_gain)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import MaskUpdateError
from caafp_app.pruning.evidence import MOVES, SIGNS, SQUARES, Evidence
from caafp_app.registry import SCORES
from caafp_app.vectors.chunks import chunks
from caafp_app.vectors.largest import kth_largest

Vector = NDArray[np.float64]
Weights = NDArray[np.floating]
OfLayer = Callable[[Weights, Evidence, slice], Callable[[slice], Vector]]
"""``of(weights [A], evidence, layer)`` looks at a whole layer, and returns the function that scores
a part of it [n], at least 0. Both slices are of the active weights."""


@dataclass(frozen=True)
class Score:
    """A named score: the registered sums that it reads, and the function of them."""

    needs: tuple[str, ...]
    of: OfLayer


Mix = Sequence[tuple[str, float]]
"""Names of scores, and the share of each; shares are not negative, and are divided by their sum."""


def sums_needed(mix: Mix) -> frozenset[str]:
    """Return the names of the sums that the scores of a mix read."""
    return frozenset(sum_ for name, share in mix if share for sum_ in SCORES[name].needs)


def importance(weights: Weights, evidence: Evidence, segments: Sequence[slice], mix: Mix) -> Vector:
    """Score all active weights [A], layer by layer, in [0, 1].

    Segments are each layer's slice in packed coordinates; see `packed_segments`. Raises
    MaskUpdateError if lengths do not agree, or the shares are not usable.
    """
    if weights.shape != (evidence.size,):
        raise MaskUpdateError(
            f"expected weights of shape {(evidence.size,)}, found {weights.shape}"
        )
    shares = _shares(mix)
    # Piece by piece: on large models a vector of full length costs more than the arithmetic.
    scores = np.zeros(weights.size)
    for layer in segments:
        parts = [(share, SCORES[name].of(weights, evidence, layer)) for name, share in shares]
        for piece in chunks(layer.stop - layer.start):
            part = slice(layer.start + piece.start, layer.start + piece.stop)
            total = np.zeros(part.stop - part.start)
            for share, score in parts:
                term = score(part)
                term *= share
                total += term
            np.minimum(total, 1.0, out=scores[part])
    return scores


def _shares(mix: Mix) -> list[tuple[str, float]]:
    """Check the shares and divide them by their sum."""
    total = sum(share for _, share in mix)
    if not mix or min(share for _, share in mix) < 0.0 or not 0.0 < total < np.inf:
        raise MaskUpdateError(
            f"expected shares of scores, none negative and not all zero, found {list(mix)}"
        )
    return [(name, share / total) for name, share in mix if share]


def _magnitude(weights: Weights, evidence: Evidence, layer: slice) -> Callable[[slice], Vector]:
    """Score by ``|w| / max |w|``, in [0, 1]; zeros for a layer of zeros."""
    values = weights[layer]
    peak = max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))

    def score(part: slice) -> Vector:
        scores: Vector = np.abs(weights[part]).astype(np.float64)
        if peak > 0.0:
            scores /= np.float64(peak)
        return scores

    return score


def _coherence(published: bool) -> OfLayer:
    """Score by ``1 / (1 + variance / median)`` of the clients' values, the layer's best one 1.

    The published ``1 / (1 + variance)`` orders nothing, because variances are near 1e-5. Against
    their mean most weights would score close to 1 again: the variances of a layer span orders of
    magnitude. Only positive ones count for the median, since the weights of dead units have none.
    """

    def agreement(variance: Vector, scale: float) -> Vector:
        scores = variance.astype(np.float64)
        # A subnormal scale would overflow the quotient; 1/(1 + inf) is the 0 it should be.
        with np.errstate(over="ignore"):
            scores /= scale
        scores += 1.0
        return np.reciprocal(scores, out=scores)

    def of(weights: Weights, evidence: Evidence, layer: slice) -> Callable[[slice], Vector]:
        variance = evidence.variance(layer)
        scale = 1.0 if published else _positive_median(variance)
        best = agreement(variance.min(keepdims=True), scale)[0] if variance.size else 1.0

        def score(part: slice) -> Vector:
            scores = agreement(variance[part.start - layer.start : part.stop - layer.start], scale)
            scores /= best
            return scores

        return score

    return of


def _consistency(weights: Weights, evidence: Evidence, layer: slice) -> Callable[[slice], Vector]:
    """Score by ``|mean sign|`` of the updates, kept within [0, 1] against rounding."""
    return lambda part: np.clip(evidence.sign_agreement(part), 0.0, 1.0)


def _curvature(weights: Weights, evidence: Evidence, layer: slice) -> Callable[[slice], Vector]:
    """Score by how much the loss would change without the weight, the layer's largest one 1.

    ``|g w| + F w^2 / 2``, F the mean squared gradient (CA-HFP, arXiv 2603.12591). What a client
    sends is an update, which stands for the gradient (the pseudo-gradient of Reddi et al., 2021).
    Its length is that of the optimiser's steps and no slope of the loss, so that g is measured
    against the root mean square of the layer: F has the mean 1. Without replies g is 0 and F is 1,
    and the order is that of magnitudes.
    """
    mean, square = evidence.mean_of(MOVES, layer), evidence.mean_of(SQUARES, layer)
    unit = float(square.mean()) if square.size else 0.0
    found: Vector = weights[layer].astype(np.float64)
    fisher = square / unit if unit > 0.0 else np.ones_like(found)
    gradient = np.abs(mean) / math.sqrt(unit) if unit > 0.0 else np.zeros_like(found)
    found = np.abs(found) * gradient + fisher * found * found / 2.0
    found /= found.max(initial=0.0) or 1.0
    return lambda part: found[part.start - layer.start : part.stop - layer.start].copy()


def _positive_median(variance: Vector) -> float:
    """Return the median of the positive values; 1 if there are none."""
    count = int(np.count_nonzero(variance > 0.0))
    if not count:
        return 1.0
    # None is negative, so the positive ones are the `count` largest.
    upper, _ = kth_largest(variance, (count + 1) // 2)
    if count % 2:
        return upper
    lower, _ = kth_largest(variance, count // 2 + 1)
    return (upper + lower) / 2.0


magnitude = Score(needs=(), of=_magnitude)
coherence = Score(needs=(SQUARES,), of=_coherence(published=False))
coherence_paper = Score(needs=(SQUARES,), of=_coherence(published=True))
consistency = Score(needs=(SIGNS,), of=_consistency)
curvature = Score(needs=(MOVES, SQUARES), of=_curvature)
