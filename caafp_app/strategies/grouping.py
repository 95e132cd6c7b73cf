"""Clients are put into clusters by their sketches; the observer is told what was compared."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.clustering.agglomerative import ClusterResult, cluster
from caafp_app.clustering.distance import cosine_distances
from caafp_app.runs.observer import Observer
from caafp_app.strategies.rules import Clustering

_MOST_COMPARED = 500
"""Clients whose distances among each other are told to the observer: a tree to look at."""


def group(
    sketches: Mapping[str, NDArray[Any]], rule: Clustering, *, seed: int, observer: Observer
) -> ClusterResult:
    """Cluster the clients that have a sketch.

    Parameters
    ----------
    sketches : mapping of str to ndarray
        By label; all of one length.
    rule : Clustering
    seed : int
        As of `cluster`.
    observer : Observer
        Told the distances, of up to 500 clients; of the clusters themselves by the caller.

    Returns
    -------
    ClusterResult
        Its `labels` are in the alphabetic order of the clients' labels.

    Raises
    ------
    RunError, ProtocolError, SettingsError
        As `cluster`.
    """
    labels = sorted(sketches)
    rows = np.stack([sketches[label] for label in labels])
    found = cluster(
        rows,
        rule.clusters,
        linkage=rule.linkage,
        min_size=rule.min_size,
        min_silhouette=rule.min_silhouette,
        seed=seed,
    )
    if len(labels) <= _MOST_COMPARED:
        observer.on_distances(labels, cosine_distances(rows))
    return found
