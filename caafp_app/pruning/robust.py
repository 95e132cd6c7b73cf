"""Means that a few liars cannot move, over the updates of one round of one cluster.

By coordinate: the trimmed mean and the median of Yin, Chen, Ramchandran, Bartlett:
"Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018.

By geometry: multi-Krum of Blanchard, El Mhamdi, Guerraoui, Stainer: "Machine Learning with
Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS 2017, and the geometric median of
Pillutla, Kakade, Harchaoui: "Robust Aggregation for Federated Learning", IEEE TSP 2022. Both give
each *client* a share, by which statistics, signs and gradients are summed too.

All of them hold n updates of A values in memory. The work is n log n per value by coordinate, n^2
by geometry. Hand updates over in the order of labels, so that the order of arrival does not show in
the last bits.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.vectors.chunks import CHUNK

LIARS = 0.3
"""Share of a round's clients that may lie: a trimmed mean leaves out so many at each end, and
multi-Krum expects so many. Rounded up, and always less than half."""

_STEPS = 50
_CLOSE = 1e-9

Updates = Sequence[NDArray[Any]]
"""n vectors [A]; they may be read-only views, and are not changed."""


def liars_among(count: int) -> int:
    """Return how many of `count` clients may lie."""
    return min(math.ceil(LIARS * count), max(count - 1, 0) // 2)


def trimmed_mean(updates: Updates, weights: Sequence[float] = ()) -> NDArray[np.float64]:
    """Return the mean of the middle values at each coordinate, shape [A].

    Every client counts alike: a number of examples is as easily made up as an update.
    """
    return _by_coordinate(updates, liars_among(len(updates)))


def median(updates: Updates, weights: Sequence[float] = ()) -> NDArray[np.float64]:
    """Return the median at each coordinate, shape [A]; `weights` is not used."""
    return _by_coordinate(updates, max(len(updates) - 1, 0) // 2)


def multi_krum(updates: Updates, weights: Sequence[float]) -> NDArray[np.float64]:
    """Return each client's share by multi-Krum, shape [n].

    A client's score is the sum of squared distances to its n - f - 2 nearest others, f being
    `liars_among`. The n - f clients of the lowest scores share by their weights; the others have 0.
    Ties go to the first.
    """
    count = len(updates)
    lying = liars_among(count)
    products = inner_products(updates)
    squares = np.diag(products)
    apart = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
    np.fill_diagonal(apart, np.inf)
    near = max(count - lying - 2, min(count - 1, 1))
    scores = np.sort(apart, axis=1)[:, :near].sum(axis=1)
    chosen = np.argsort(scores, kind="stable")[: count - lying]
    shares = np.zeros(count)
    shares[chosen] = np.asarray(weights, dtype=np.float64)[chosen]
    return _normal(shares)


def geometric_median(updates: Updates, weights: Sequence[float]) -> NDArray[np.float64]:
    """Return each client's share in the geometric median, shape [n].

    The point ``z = sum_i c_i u_i`` that minimises ``sum_i w_i |z - u_i|``, by Weiszfeld's steps
    ``c_i ~ w_i / |z - u_i|``, which need only the inner products. Less than half of the weight
    cannot move it far.
    """
    given = _normal(np.asarray(weights, dtype=np.float64))
    products = inner_products(updates)
    squares = np.diag(products)
    # A distance below this is as good as none; and it keeps the shares finite.
    least = 1e-6 * math.sqrt(float(squares.mean())) if squares.size else 0.0
    shares = given
    for _ in range(_STEPS):
        toward = products @ shares
        apart = np.sqrt(np.maximum(shares @ toward - 2 * toward + squares, 0))
        closer = _normal(given / np.maximum(apart, least or 1.0))
        moved = float(np.abs(closer - shares).max(initial=0.0))
        shares = closer
        if moved < _CLOSE:
            break
    return shares


def inner_products(updates: Updates) -> NDArray[np.float64]:
    """Return the matrix of inner products, shape [n, n], in pieces of the vectors."""
    count = len(updates)
    products = np.zeros((count, count))
    for block in _blocks(updates):
        products += block @ block.T
    return products


def middle_buffers(buffers: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the lower median of integer or boolean buffers at each coordinate, in their dtype.

    Counters and flags cannot be averaged, and one client's must not become everybody's.
    """
    whole = np.sort(np.stack(buffers), axis=0, kind="stable")
    middle: NDArray[Any] = whole[(len(buffers) - 1) // 2]
    return middle


def is_variance(name: str) -> bool:
    """Tell by its name (torch's, Keras', Flax's) whether an array is a running variance."""
    last = name.replace("/", ".").split(".")[-1]
    return last in ("running_var", "moving_variance", "var")


def _by_coordinate(updates: Updates, cut: int) -> NDArray[np.float64]:
    count = len(updates)
    mean = np.empty(updates[0].size)
    start = 0
    for block in _blocks(updates):
        block.sort(axis=0)
        stop = start + block.shape[1]
        mean[start:stop] = block[cut : count - cut].mean(axis=0)
        start = stop
    return mean


def _blocks(updates: Updates) -> Iterator[NDArray[np.float64]]:
    """Yield float64 pieces [n, at most CHUNK / n] of the stack of updates, in order."""
    width = max(1, CHUNK // max(len(updates), 1))
    size = updates[0].size if updates else 0
    for start in range(0, size, width):
        part = slice(start, min(start + width, size))
        yield np.stack([update[part] for update in updates]).astype(np.float64)


def _normal(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    total = float(shares.sum())
    return shares / total if total else np.full(shares.size, 1 / max(shares.size, 1))
