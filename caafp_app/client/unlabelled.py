"""What a client can tell of a model without a label."""

import numpy as np
from numpy.typing import NDArray


def of_predictions(probabilities: NDArray[np.floating]) -> dict[str, float]:
    """Return how sure a model is, and how much its classes vary, by probabilities [n, classes].

    ``sure`` is the mean largest probability, ``entropy`` the mean entropy of a window and
    ``variety`` the entropy of their mean, in nats: a model that calls everything one class is sure,
    and its variety is 0.
    """
    if not len(probabilities):
        return {}
    return {
        "sure": float(probabilities.max(axis=1).mean()),
        "entropy": float(_entropy(probabilities).mean()),
        "variety": float(_entropy(probabilities.mean(axis=0))),
    }


def _entropy(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    logarithms = np.log(np.where(probabilities > 0, probabilities, 1.0))
    found: NDArray[np.float64] = -(probabilities * logarithms).sum(axis=-1)
    return found
