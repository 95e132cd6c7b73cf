"""Centroids of clusters, and the nearest one for a client that comes later."""

import numpy as np
from numpy.typing import NDArray

from caafp_app.clustering.distance import cosine_distances

Labels = NDArray[np.int64]


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
