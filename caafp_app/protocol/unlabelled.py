"""Which model suits a client without labels: what each model says of its windows."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

GENERAL = -1
"""The number of the general model among the clusters'."""
MARGIN = 0.1
"""By how much a cluster's model has to be ahead of the general one, in nats."""


def said_of(probabilities: NDArray[np.floating]) -> dict[str, float]:
    """Return what a model says of windows, by probabilities [n, classes].

    ``sure`` is the mean largest probability, ``entropy`` the mean entropy of a window and
    ``variety`` the entropy of their mean, in nats: a model that calls everything one class is sure,
    and its variety is 0.
    """
    if not len(probabilities):
        return {}
    return {
        "sure": float(probabilities.max(axis=1).mean()),
        "entropy": float(entropy(probabilities).mean()),
        "variety": float(entropy(probabilities.mean(axis=0))),
    }


def information(said: Mapping[str, float]) -> float:
    """Return ``variety - entropy``, in nats: how much a model seems to know of the windows."""
    return said.get("variety", 0.0) - said.get("entropy", 0.0)


def informed(found: Mapping[int, float]) -> int:
    """Return the cluster of most `information` where it is ahead by the margin, else `GENERAL`.

    A model that knows a client's windows is sure of each and yet tells classes apart (Bridle,
    Heading, MacKay, NIPS 1991).
    """
    clusters = [number for number in found if number != GENERAL]
    best = max(clusters, key=lambda k: found[k], default=GENERAL)
    return best if found[best] > found[GENERAL] + MARGIN else GENERAL


def entropy(shares: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the entropy over the last axis, in nats."""
    logarithms = np.log(np.where(shares > 0, shares, 1.0))
    found: NDArray[np.float64] = -(shares * logarithms).sum(axis=-1)
    return found
