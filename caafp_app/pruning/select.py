"""From scores and counts to masks. Counts are exact, ties go by index."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import MaskUpdateError
from caafp_app.pruning.segments import active_counts, sizes_of
from caafp_app.vectors.largest import largest

Counts = NDArray[np.int64]


def growth_counts(
    active: Counts,
    counts: Counts,
    regrow: float,
    sizes: Counts,
    candidates: Counts | None = None,
) -> Counts:
    """Return how many inactive weights of each layer a mask update grows, shape [layers].

    With k = ``counts`` to be active after it, n weights (``sizes``) and a active: ``floor(regrow k
    + 1/2)``, but at most the n - a inactive ones, of which at most the ``candidates`` that
    something speaks for; or k - a where the layer has to become denser by more than that.

    Raises MaskUpdateError if ``regrow`` is outside [0, 1), or a count outside [0, n].
    """
    if not 0.0 <= regrow < 1.0:
        raise MaskUpdateError(f"expected a regrow share in [0, 1), found {regrow}")
    _check_counts(counts, sizes)
    exchanged = np.floor(regrow * counts + 0.5).astype(np.int64)
    available = sizes - active if candidates is None else candidates
    growth: Counts = np.maximum(np.minimum(exchanged, available), counts - active)
    return growth


def update_mask(
    mask: NDArray[np.bool_],
    scores: NDArray[np.floating],
    gradient: NDArray[np.floating],
    counts: Sequence[int] | Counts,
    regrow: float,
    segments: Sequence[slice],
) -> NDArray[np.bool_]:
    """Prune the least important weights of each layer, grow inactive ones; return a mask [P].

    A layer with target k grows the g = `growth_counts` inactive positions of largest ``|gradient|``
    and keeps the k - g active ones of largest score. What is pruned here is not grown here: growth
    draws from the positions inactive in ``mask``. Ties go to the lower index, for both. No active
    weight gives way to one of gradient zero, of which nobody has told anything: such a one grows
    only where the layer has to become denser.

    Law: each layer has exactly ``counts`` active weights afterwards; pruned and grown are disjoint;
    ``after = before - pruned + grown``.

    `scores` [A] are of the active weights, packed; `gradient` [P] is the mean one, read at inactive
    positions only, zero where it is not known; `counts` are k of each layer [layers], and `regrow`,
    in [0, 1), the share of it that is exchanged. Raises MaskUpdateError if these do not go
    together, or a score or gradient is NaN.
    """
    targets = np.asarray(counts, dtype=np.int64)
    active = active_counts(mask, segments)
    if gradient.shape != mask.shape or scores.shape != (int(active.sum()),):
        raise MaskUpdateError(
            f"expected a gradient of {mask.size} and scores of {active.sum()} weights, found "
            f"shapes {gradient.shape} and {scores.shape}"
        )
    known = active_counts(~mask & (gradient != 0), segments)
    grown = growth_counts(active, targets, regrow, sizes_of(segments), known)
    kept = targets - grown
    after = np.zeros_like(mask)
    packed = 0
    for layer, segment in enumerate(segments):
        old, new = mask[segment], after[segment]
        layer_scores = scores[packed : packed + int(active[layer])]
        packed += int(active[layer])
        new[old] = largest(layer_scores, int(kept[layer]))
        if grown[layer]:
            inactive = ~old
            candidates = gradient[segment][inactive]
            new[inactive] = largest(np.abs(candidates, out=candidates), int(grown[layer]))
    return after


def _check_counts(counts: Counts, sizes: Counts) -> None:
    if counts.shape != sizes.shape or (counts < 0).any() or (counts > sizes).any():
        raise MaskUpdateError(
            f"expected a count between 0 and its size for each layer of {sizes.tolist()} weights, "
            f"found {counts.tolist()}"
        )
