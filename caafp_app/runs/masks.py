"""What masks on disk have in common."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def jaccard(masks: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return, for each two masks, the weights active in both over those active in either.

    Two independent masks of density d have d / (2 - d).

    Parameters
    ----------
    masks : sequence of ndarray of uint8 [m]
        Packed bits, all of one length.

    Returns
    -------
    ndarray of float64 [k, k]
        In [0, 1], symmetric, 1 on the diagonal (and for two empty masks).
    """
    bits = [np.unpackbits(mask) for mask in masks]
    overlap = np.ones((len(bits), len(bits)))
    for i, one in enumerate(bits):
        for j, other in enumerate(bits[:i]):
            either = int(np.count_nonzero(one | other))
            both = int(np.count_nonzero(one & other))
            overlap[i, j] = overlap[j, i] = both / either if either else 1.0
    return overlap
