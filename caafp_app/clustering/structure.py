"""Whether clients form groups at all, and how many: a test, then quality and stability.

Without groups the clients' vectors are one cloud, long in some directions and short in others. It
gives clusters too, and good ones if it is long. So the clusters found are compared with those of
clouds of the same singular values: the clients are rotated at random, which is what a Gaussian
cloud does not notice (Langsrud, "Rotation tests", Statistics and Computing 15, 2005), as Liu,
Hayes, Nobel and Marron test two clusters in high dimension (JASA 103, 2008). Only the products of
the clients' vectors are needed, so a draw costs no more than clustering so many clients.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caafp_app.clustering.assign import Labels, by_first_member

Matrix = NDArray[np.float64]

MOST_CLUSTERS = 6
LEVEL = 0.01
"""Share of clouds without groups that are taken for groups."""
DRAWS = 199
TESTED = 150
"""Clients that the test looks at; of more, a sample."""
RESAMPLED, SHARE = 20, 0.8
"""Draws of the stability, and the share of the clients in each."""
STABLE = 0.6
"""Least mean adjusted Rand index between the clusters and those of 80 % of the clients."""
MOST_CUTS = 2 * MOST_CLUSTERS


@dataclass(frozen=True)
class Structure:
    """What was found: each client's cluster, all 0 without structure, and the figures in words.

    `p` is the share of the clouds without groups whose clusters are as good.
    """

    labels: Labels
    p: float
    note: str


def find_structure(
    vectors: NDArray[np.floating], *, linkage: str = "average", min_size: int = 2, seed: int = 0
) -> Structure:
    """Find the groups of clients, one where there are none.

    `vectors` has a row for each client, [n, d], whose mean is taken off. A cluster of fewer than
    `min_size` joins its nearest: an odd client makes no group. `seed` decides the random clouds.
    """
    count = len(vectors)
    labels = np.zeros(count, dtype=np.int64)
    if count < 2 * max(min_size, 2):
        return Structure(labels, 1.0, f"one cluster: {count} clients are too few for groups")
    products = _centred_products(vectors)
    rng = np.random.default_rng(seed)
    tested = products
    if count > TESTED:
        chosen = np.sort(rng.choice(count, TESTED, replace=False))
        tested = _centre(products[np.ix_(chosen, chosen)])
    best = _best(tested, linkage, min_size)
    null = [_best(cloud, linkage, min_size) for cloud in _clouds(tested, rng)]
    p = (1 + sum(one >= best for one in null)) / (1 + len(null))
    told = f"silhouette {best:.2f}, without groups {np.median(null):.2f}, p = {p:.3f}"
    if p > LEVEL:
        return Structure(labels, p, f"one cluster, no structure: {told}")
    distances = _distances(products)
    found = _partitions(distances, linkage, min_size)
    scores = {k: silhouette(distances, one) for k, one in found.items()}
    stable = {
        k: _stability(distances, one, linkage, np.random.default_rng([seed, k]))
        for k, one in found.items()
    }
    table = ", ".join(f"{k}: {scores[k]:.2f} / {stable[k]:.2f}" for k in sorted(found))
    told += f"; silhouette / stability by number: {table}"
    steady = [k for k in found if stable[k] >= STABLE]
    chosen_k = max(steady, key=lambda k: scores[k] * stable[k], default=1)
    if chosen_k == 1:
        return Structure(labels, p, f"one cluster, none stable: {told}")
    return Structure(found[chosen_k], p, f"{chosen_k} clusters: {told}")


def agreement(first: Mapping[str, int], second: Mapping[str, int]) -> float:
    """Return the adjusted Rand index of two groupings over the clients in both; 0 without any."""
    from sklearn.metrics import adjusted_rand_score

    both = sorted(first.keys() & second.keys())
    if not both:
        return 0.0
    return float(adjusted_rand_score([first[k] for k in both], [second[k] for k in both]))


def _centred_products(vectors: NDArray[np.floating]) -> Matrix:
    products = np.zeros((len(vectors), len(vectors)))
    for start in range(0, vectors.shape[1], 2**16):
        block = vectors[:, start : start + 2**16].astype(np.float64)
        products += block @ block.T
    return _centre(products)


def _centre(products: Matrix) -> Matrix:
    """Return the products of vectors less their mean."""
    centred: Matrix = products - products.mean(0) - products.mean(1)[:, None] + products.mean()
    return centred


def _distances(products: Matrix) -> Matrix:
    """Return cosine distances; what has no direction is at 1 from everything."""
    norms = np.sqrt(np.maximum(products.diagonal(), 0.0))
    norms[norms <= 1e-12 * max(norms.max(), 1e-300)] = np.inf
    distances = np.clip(1.0 - products / norms / norms[:, None], 0.0, 2.0)
    distances = (distances + distances.T) / 2
    np.fill_diagonal(distances, 0.0)
    return distances


def _clouds(products: Matrix, rng: np.random.Generator) -> list[Matrix]:
    """Return the products of random clouds of as many clients, with the same singular values."""
    count = len(products)
    values = np.maximum(np.linalg.eigvalsh(products)[1:], 0.0)  # centred: one direction less
    clouds = []
    for _ in range(DRAWS):
        drawn = rng.standard_normal((count, count - 1))
        frame, upper = np.linalg.qr(drawn - drawn.mean(0))
        frame *= np.sign(upper.diagonal())
        clouds.append((frame * values) @ frame.T)
    return clouds


def _best(products: Matrix, linkage: str, min_size: int) -> float:
    """Return the best silhouette of clusters of some clients; -1 where there are none."""
    distances = _distances(products)
    found = _partitions(distances, linkage, min_size).values()
    return max((silhouette(distances, labels) for labels in found), default=-1.0)


def _partitions(distances: Matrix, linkage: str, min_size: int) -> dict[int, Labels]:
    """Return clusters by their number, 2 to 6, none smaller than `min_size`: cuts of one tree.

    A cut that leaves clients over gives them to their nearest cluster. Where several cuts come to
    one number, the first, of the fewest left over, stands.
    """
    count = len(distances)
    tree = tree_of(distances, linkage)
    found: dict[int, Labels] = {}
    for k in range(2, min(MOST_CUTS, count - 1) + 1):
        labels = _join_small(distances, cut_tree(tree, k), min_size)
        number = int(labels.max()) + 1
        if 2 <= number <= MOST_CLUSTERS and number < count:
            found.setdefault(number, labels)
    return found


def tree_of(distances: Matrix, linkage: str) -> Matrix:
    """Return the tree of the clients, as scipy has it: a row for each merge."""
    from scipy.cluster import hierarchy

    if len(distances) < 2:
        return np.empty((0, 4))
    tree: Matrix = hierarchy.linkage(distances[np.triu_indices(len(distances), 1)], linkage)
    return tree


def cut_tree(tree: Matrix, k: int) -> Labels:
    """Cut a tree into k clusters, numbered by their first member."""
    count = len(tree) + 1
    member = np.arange(count)
    names = list(range(count))  # the cluster each node of the tree has become
    for left, right in tree[: count - k, :2].astype(int):
        member[member == names[right]] = names[left]
        names.append(names[left])
    return by_first_member(member)


def _join_small(distances: Matrix, labels: Labels, min_size: int) -> Labels:
    """Give the members of small clusters to the large ones, each to the nearest on average."""
    sizes = np.bincount(labels)
    large = np.flatnonzero(sizes >= min_size)
    if large.size == sizes.size or not large.size:
        return labels if large.size else np.zeros_like(labels)
    means = distances @ (labels[:, None] == large) / sizes[large]
    joined = np.where(sizes[labels] >= min_size, labels, large[means.argmin(axis=1)])
    return by_first_member(joined)


def silhouette(distances: Matrix, labels: Labels) -> float:
    """Return the mean silhouette (Rousseeuw, 1987) of at least two clusters."""
    members = labels[:, None] == np.arange(labels.max() + 1)
    sizes = members.sum(0)
    sums = distances @ members
    own = sums[members] / np.maximum(sizes[labels] - 1, 1)
    others = np.where(members, np.inf, sums / sizes).min(axis=1)
    larger = np.maximum(own, others)
    widths = np.where((sizes[labels] > 1) & (larger > 0), (others - own), 0.0)
    return float((widths / np.where(larger > 0, larger, 1.0)).mean())


def _stability(distances: Matrix, labels: Labels, linkage: str, rng: np.random.Generator) -> float:
    """Return how well the clusters of a part of the clients agree with those of all.

    A small cluster may have one client left in the part, so there is no least size.
    """
    from sklearn.metrics import adjusted_rand_score

    count, k = len(labels), int(labels.max()) + 1
    agreements = []
    for _ in range(RESAMPLED):
        rows = np.sort(rng.choice(count, max(round(SHARE * count), 2), replace=False))
        found = _partitions(distances[np.ix_(rows, rows)], linkage, 1).get(k)
        agreements.append(0.0 if found is None else adjusted_rand_score(labels[rows], found))
    return float(np.mean(agreements))
