"""Agglomerative clustering of clients by the directions of their updates.

Sattler et al. (2021) and FedCHAR (IMWUT 7(1):20, 2023): clients whose updates from the same weights
point the same way have data that look alike.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caafp_app.clustering.assign import (
    Labels,
    assign,
    by_first_member,
    centroids_of,
    cosine_distances,
)
from caafp_app.clustering.structure import MOST_CLUSTERS, cut_tree, silhouette, tree_of
from caafp_app.errors import ProtocolError, RunError, SettingsError

# Below it there is no structure to speak of: updates that differ by noise alone stay under 0.035
# (12 and 36 clients, 2 000 values, with or without a common direction), weak groups reach 0.12.
LEAST_SILHOUETTE = 0.05
SAMPLE_LIMIT = 2_000  # clients; a distance matrix of 32 MB


@dataclass(frozen=True, eq=False)
class Grouping:
    """Clusters of clients, `k` of them and none empty.

    Each client's, shape [n], numbered by their first members; their mean directions, [k, d]; and
    what a reader of the log should know, if not all went as asked for.
    """

    labels: Labels
    centroids: NDArray[np.float32]
    k: int
    note: str


def cluster(
    sketches: NDArray[np.floating],
    k: int,
    *,
    linkage: str = "average",
    min_size: int = 1,
    min_silhouette: float = LEAST_SILHOUETTE,
    seed: int = 0,
) -> Grouping:
    """Cluster clients by the cosine distances of their sketches, a row each [n, d].

    With more than `SAMPLE_LIMIT` clients a random sample of so many is clustered; every other one
    joins the nearest centroid: time and memory are then linear in the number of clients.

    Raises RunError if there are no clients, ProtocolError if a sketch holds NaN or infinity,
    SettingsError if there are fewer clients than clusters, or a setting is outside its range.

    Parameters
    ----------
    k : int
        Number of clusters. 0: the one of 2 to 6 with the best silhouette, or 1 cluster if that is
        not above `min_silhouette`.
    min_size : int
        Smaller clusters are merged into the one of nearest centroid, the smallest first.
    min_silhouette : float
        In [-1, 1]. Up to 0.25 Kaufman and Rousseeuw ("Finding Groups in Data", 1990) see no
        substantial structure.
    """
    clients = len(sketches)
    limit = SAMPLE_LIMIT
    _check(sketches, k, min_size)
    if not -1 <= min_silhouette <= 1:
        raise SettingsError(f"expected a silhouette in [-1, 1], found {min_silhouette:g}")
    notes = []
    sample = np.arange(clients)
    if clients > limit:
        sample = np.sort(np.random.default_rng(seed).choice(clients, limit, replace=False))
        notes.append(
            f"clustered a sample of {limit} of {clients} clients; the others joined the nearest"
        )
    sampled = sketches[sample] if clients > limit else sketches
    distances = cosine_distances(sampled)
    tree = tree_of(distances, linkage)
    if k == 0:
        least = -(-min_size * len(sample) // clients)
        of_sample, note = _choose(sampled, distances, tree, least, min_silhouette)
        notes.append(note)
    else:
        of_sample = cut_tree(tree, k)
    labels = of_sample
    if clients > limit:
        found = int(of_sample.max()) + 1
        labels = assign(sketches, centroids_of(sampled, of_sample, found))
        labels[sample] = of_sample
    before = int(labels.max()) + 1
    labels = _merge_small(sketches, labels, min_size)
    found = int(labels.max()) + 1
    if found < before:
        notes.append(f"{before - found} of {before} clusters had under {min_size} clients: merged")
    return Grouping(
        labels=labels,
        centroids=centroids_of(sketches, labels, found),
        k=found,
        note="; ".join(notes),
    )


def _check(sketches: NDArray[np.floating], k: int, min_size: int) -> None:
    """Refuse what cannot be clustered."""
    clients = len(sketches)
    if clients == 0:
        raise RunError("expected clients to cluster, found none: none answered with an update")
    if k < 0 or min_size < 1:
        raise SettingsError(
            f"expected clusters >= 0 and a minimum size >= 1, found {k} and {min_size}"
        )
    if k > (most := min(clients, SAMPLE_LIMIT)):
        raise SettingsError(
            f"expected at most {most} clusters of {clients} clients, found {k}: ask for fewer "
            "clusters, or wait for more clients"
        )
    if not all(np.isfinite(sketch).all() for sketch in sketches):
        raise ProtocolError("expected finite sketches, found NaN or infinity")


def _choose(
    sketches: NDArray[np.floating],
    distances: NDArray[np.float64],
    tree: NDArray[np.float64],
    min_size: int,
    min_silhouette: float,
) -> tuple[Labels, str]:
    """Return the labels of best silhouette, with small clusters merged, and what was compared."""
    best, best_score = np.zeros(len(sketches), dtype=np.int64), min_silhouette
    scores = []
    for k in range(2, min(MOST_CLUSTERS, len(sketches) - 1) + 1):
        labels = _merge_small(sketches, cut_tree(tree, k), min_size)
        if labels.max() == 0:
            continue
        score = silhouette(distances, labels)
        scores.append(f"{k}: {score:.3f}")
        if score > best_score:
            best, best_score = labels, score
    if not scores:
        return best, "one cluster: too few clients to compare numbers of clusters by silhouette"
    chosen = int(best.max()) + 1
    note = f"number of clusters chosen by silhouette: {chosen} ({', '.join(scores)}"
    return best, note + (")" if chosen > 1 else f"; none above {min_silhouette:g})")


def _merge_small(sketches: NDArray[np.floating], labels: Labels, min_size: int) -> Labels:
    """Merge clusters below the minimum size into the nearest, the smallest first."""
    labels = labels.copy()
    while True:
        sizes = np.bincount(labels)
        smallest = int(sizes.argmin())
        if sizes[smallest] >= min_size or sizes.size == 1:
            return by_first_member(labels)
        distances = cosine_distances(centroids_of(sketches, labels, sizes.size))[smallest]
        distances[smallest] = np.inf
        labels[labels == smallest] = distances.argmin()
        labels = by_first_member(labels)
