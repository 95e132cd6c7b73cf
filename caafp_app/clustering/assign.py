"""Which cluster a client is in: distances, centroids, and the numbers of clusters."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]

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


def by_first_member(labels: NDArray[np.integer]) -> Labels:
    """Renumber clusters in the order of their first members."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def centroids_of(
    sketches: NDArray[np.floating], labels: NDArray[np.integer], clusters: int
) -> NDArray[np.float32]:
    """Return each cluster's mean direction: the mean of its members' sketches at unit length.

    Length does not count, as in the distances: a client with large updates pulls no more than
    others. Shape [clusters, d]; zeros for a cluster without members.
    """
    sums = np.zeros((clusters, sketches.shape[1]))
    for sketch, label in zip(sketches, labels, strict=True):
        direction = sketch.astype(np.float64)
        norm = np.linalg.norm(direction)
        if norm > 0.0:
            direction /= norm
            sums[label] += direction
    members = np.bincount(labels, minlength=clusters)
    sums /= np.maximum(members, 1)[:, np.newaxis]
    return sums.astype(np.float32)


def assign(sketches: NDArray[np.floating], centroids: NDArray[np.floating]) -> Labels:
    """Return for each sketch the cluster whose centroid is nearest by cosine, shape [n].

    Ties, and with them sketches of zeros, go to the lowest number.
    """
    nearest: Labels = cosine_distances(sketches, centroids).argmin(axis=1)
    return nearest


def keep_numbers(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Renumber the clusters of `after` by those of `before` that they share most clients with.

    Both give the cluster, from 0, by client; labels that are in one of them only do not count. The
    one-to-one match that the most clients agree with (Kuhn, 1955); a cluster without a match gets
    the lowest number that is free.
    """
    from scipy.optimize import linear_sum_assignment

    if not after:
        return {}
    shared = np.zeros((max(after.values()) + 1, max(before.values(), default=0) + 1))
    for label, number in after.items():
        if label in before:
            shared[number, before[label]] += 1
    matched = {
        int(new): int(old)
        for new, old in zip(*linear_sum_assignment(-shared), strict=True)
        if shared[new, old]
    }
    free = (number for number in range(len(after) + 1) if number not in matched.values())
    for number in sorted(set(after.values()) - matched.keys()):
        matched[number] = next(free)
    return {label: matched[number] for label, number in after.items()}
