"""What masks on disk have in common."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def jaccard(masks: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return, for each two of k masks, the weights active in both over those active in either.

    Masks are packed bits, all of one length. The result [k, k] is symmetric, 1 on the diagonal (and
    for two empty masks). Two independent masks of density d have d / (2 - d).
    """
    bits = [np.unpackbits(mask) for mask in masks]
    overlap = np.ones((len(bits), len(bits)))
    for i, one in enumerate(bits):
        for j, other in enumerate(bits[:i]):
            either = int(np.count_nonzero(one | other))
            both = int(np.count_nonzero(one & other))
            overlap[i, j] = overlap[j, i] = both / either if either else 1.0
    return overlap
