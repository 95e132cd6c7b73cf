"""Cosine distances between sketches."""

import numpy as np
from numpy.typing import NDArray

_BLOCK = 2**22  # float64 values converted at a time: 32 MB


def cosine_distances(
    rows: NDArray[np.floating], others: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """Return ``1 - cos`` between each row [n, d] and each of the others [m, d], or of the rows.

    Computed in float64, some columns at a time, so that the memory beside the result is bounded.
    Distances [n, m] are in [0, 2]; those of the rows themselves symmetric, with a diagonal of
    exactly 0. A vector of zeros points nowhere: it is at distance 1 from everything but itself.
    """
    n, width = rows.shape
    m = n if others is None else len(others)
    products = np.zeros((n, m))
    squares, other_squares = np.zeros(n), np.zeros(m)
    step = max(1, _BLOCK // max(n + m, 1))
    for start in range(0, width, step):
        block = rows[:, start : start + step].astype(np.float64)
        squares += np.einsum("ij,ij->i", block, block)
        if others is None:
            products += block @ block.T
        else:
            other = others[:, start : start + step].astype(np.float64)
            other_squares += np.einsum("ij,ij->i", other, other)
            products += block @ other.T
    norms = np.sqrt(squares)
    other_norms = norms if others is None else np.sqrt(other_squares)
    # One side at a time: the product of two tiny norms may be zero where neither is.
    products /= np.where(norms > 0.0, norms, 1.0)[:, np.newaxis]
    products /= np.where(other_norms > 0.0, other_norms, 1.0)
    distances = np.clip(1.0 - products, 0.0, 2.0)
    if others is None:
        distances = (distances + distances.T) / 2.0
        np.fill_diagonal(distances, 0.0)
    return distances
