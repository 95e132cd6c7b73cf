"""How long weights have been pruned, and what that lends to their growth.

As a term of the setting ``score``: of active weights it says nothing; what may grow is ordered by
``|g| (1 + b age / oldest)``, b the term's weight by that of all others. So what has not been tried
for long is tried again; but nothing grows for which no gradient speaks.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from caafp_app.pruning.evidence import Evidence
from caafp_app.pruning.scores import Score, Weights

Ages = NDArray[np.uint16]


def older(ages: Ages | None, mask: NDArray[np.bool_]) -> Ages:
    """Return for how many mask updates each weight [P] has been pruned; 0: active in `mask`."""
    before = np.zeros(mask.size, np.uint16) if ages is None else ages
    return np.where(mask, np.uint16(0), np.minimum(before, 65534) + np.uint16(1))


def with_bonus(gradient: NDArray[np.float64], ages: Ages, bonus: float) -> NDArray[np.float64]:
    """Return gradients [P] times ``1 + bonus age / oldest``."""
    found: NDArray[np.float64] = gradient * (
        1.0 + bonus * (ages / max(int(ages.max(initial=0)), 1))
    )
    return found


def _nothing(
    weights: Weights, evidence: Evidence, layer: slice
) -> Callable[[slice], NDArray[np.float64]]:
    return lambda part: np.zeros(part.stop - part.start)


staleness = Score(needs=(), of=_nothing)
