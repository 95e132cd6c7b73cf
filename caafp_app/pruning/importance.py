"""How important each active weight of a cluster's model is, from the statistics of the clients.

Jha, Shukla, Lone (CA-AFP, arXiv 2603.01739, 2026) score a weight by three parts, each per layer:

- magnitude    ``M = |w| / max |w|``,
- coherence    ``C = 1 / (1 + Var_c(w_c))``, divided by the layer's largest,
- consistency  ``K = |mean_c sign(update_c)|``,

and ``S = alpha M + beta C + gamma K``. All clients start from the same weights, so ``Var_c(w_c)``
is the variance of the updates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import MaskUpdateError
from caafp_app.pruning.segments import check_segments
from caafp_app.vectors.chunks import chunks
from caafp_app.vectors.largest import kth_largest

COHERENCE_FORMS = ("relative", "paper")


def magnitude(
    weights: NDArray[np.floating], peak: float | np.floating | None = None
) -> NDArray[np.float64]:
    """Return ``|w| / max |w|`` of one layer, in [0, 1]; zeros for a layer of zeros.

    Parameters
    ----------
    weights : NDArray[np.floating]
        Active weights of the layer, shape [n].
    peak : float, optional
        max |w| of the layer, where `weights` are a part of it.

    Returns
    -------
    NDArray[np.float64]
        Shape [n].
    """
    scores: NDArray[np.float64] = np.abs(weights).astype(np.float64)
    peak = _peak(weights) if peak is None else peak
    if peak > 0.0:
        scores /= np.float64(peak)
    return scores


def coherence(
    variance: NDArray[np.floating],
    form: str = "relative",
    layer: "Spread | None" = None,
) -> NDArray[np.float64]:
    """Score the agreement of the clients' values in one layer, in (0, 1], the best one 1.

    Updates are small: with variances near 1e-5 the published ``1 / (1 + variance)`` is 0.99 or more
    for nearly all weights, and orders nothing. The relative form measures the variance against the
    layer's own: ``1 / (1 + variance / median)``. The median, because the variances of a layer span
    orders of magnitude: against their mean, which the few largest set, most weights would score
    close to 1 again; against the median half of them score above 1/2, half below, whatever the
    learning rate. Only positive variances count for it, since the weights of dead units have none.

    Parameters
    ----------
    variance : NDArray[np.floating]
        Variance over clients at the layer's active weights, shape [n], not negative.
    form : str
        ``relative`` or ``paper``.
    layer : Spread, optional
        Of the whole layer, where `variance` is a part of it.

    Returns
    -------
    NDArray[np.float64]
        Shape [n].

    Raises
    ------
    MaskUpdateError
        If the form is unknown.
    """
    layer = Spread.of(variance, form) if layer is None else layer
    scores = layer.agreement(variance)
    scores /= layer.best
    return scores


@dataclass(frozen=True)
class Spread:
    """What the coherence of a weight is measured by: two figures of its layer.

    Attributes
    ----------
    scale : float
        Median of the positive variances; 1 in the published form.
    best : float
        Largest ``1 / (1 + variance / scale)``.
    """

    scale: float
    best: float

    @classmethod
    def of(cls, variance: NDArray[np.floating], form: str) -> Self:
        """Look at the variances of a whole layer.

        Raises
        ------
        MaskUpdateError
            If the form is unknown.
        """
        if form not in COHERENCE_FORMS:
            raise MaskUpdateError(f"expected a coherence form of {COHERENCE_FORMS}, found {form!r}")
        found = cls(_positive_median(variance) if form == "relative" else 1.0, 1.0)
        if not variance.size:
            return found
        return cls(found.scale, float(found.agreement(variance.min(keepdims=True))[0]))

    def agreement(self, variance: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return ``1 / (1 + variance / scale)``, shape [n]."""
        scores = variance.astype(np.float64)
        # A subnormal scale would overflow the quotient; 1/(1 + inf) is the 0 it should be.
        with np.errstate(over="ignore"):
            scores /= self.scale
        scores += 1.0
        return np.reciprocal(scores, out=scores)


def consistency(sign_agreement: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ``|mean sign|`` as it is, kept within [0, 1] against rounding.

    Parameters
    ----------
    sign_agreement : NDArray[np.floating]
        Absolute mean sign of the updates, shape [n].

    Returns
    -------
    NDArray[np.float64]
        Shape [n].
    """
    return np.clip(sign_agreement.astype(np.float64), 0.0, 1.0)


def importance(
    weights: NDArray[np.floating],
    variance: NDArray[np.floating],
    agreement: NDArray[np.floating],
    *,
    segments: Sequence[slice],
    score_weights: Sequence[float] = (0.5, 0.25, 0.25),
    form: str = "relative",
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Score all active weights, layer by layer.

    Parameters
    ----------
    weights, variance, agreement : NDArray[np.floating]
        The model, and what `UpdateStatistics` says, at active positions, shape [A].
    segments : Sequence[slice]
        Each layer's slice in packed coordinates; see `packed_segments`.
    score_weights : Sequence[float]
        Shares of magnitude, coherence and consistency, not negative; divided by their sum.
    form : str
        Form of the coherence, ``relative`` or ``paper``.
    out : NDArray[np.float64], optional
        Where to put the result, shape [A]; may be `variance` or `agreement` itself.

    Returns
    -------
    NDArray[np.float64]
        Importance in [0, 1], shape [A].

    Raises
    ------
    MaskUpdateError
        If lengths or segments do not agree, or the score weights are not usable.
    """
    if not (weights.shape == variance.shape == agreement.shape == (weights.size,)):
        raise MaskUpdateError(
            "expected weights, variance and agreement of one length, found shapes "
            f"{weights.shape}, {variance.shape}, {agreement.shape}"
        )
    check_segments(segments, weights.size)
    shares = _shares(score_weights)
    # Piece by piece: on large models a vector of full length costs more than the arithmetic.
    scores = np.zeros(weights.size, dtype=np.float64) if out is None else out
    for layer in segments:
        peak = _peak(weights[layer])
        spread = Spread.of(variance[layer], form) if shares[1] else None
        for piece in chunks(layer.stop - layer.start):
            part = slice(layer.start + piece.start, layer.start + piece.stop)
            total = np.zeros(part.stop - part.start, dtype=np.float64)
            if shares[0]:
                _add(total, shares[0], magnitude(weights[part], peak))
            if shares[1]:
                _add(total, shares[1], coherence(variance[part], form, spread))
            if shares[2]:
                _add(total, shares[2], consistency(agreement[part]))
            np.minimum(total, 1.0, out=scores[part])
    return scores


def _add(total: NDArray[np.float64], share: float, part: NDArray[np.float64]) -> None:
    part *= share
    total += part


def _peak(weights: NDArray[np.floating]) -> float:
    """Return ``max |w|``, 0 for no weights."""
    return max(float(weights.max(initial=0.0)), -float(weights.min(initial=0.0)))


def _positive_median(variance: NDArray[np.floating]) -> float:
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


def _shares(score_weights: Sequence[float]) -> list[float]:
    """Check the score weights and divide them by their sum."""
    total = sum(score_weights)
    if len(score_weights) != 3 or min(score_weights) < 0.0 or not 0.0 < total < np.inf:
        raise MaskUpdateError(
            "expected three score weights, none negative and not all zero, found "
            f"{tuple(score_weights)}"
        )
    return [weight / total for weight in score_weights]
