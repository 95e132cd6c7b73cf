"""A linear classifier as named arrays, and the pictures of each client."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

Arrays = dict[str, NDArray[np.float64]]
Data = tuple[NDArray[np.float64], NDArray[np.int64]]


def initial_arrays() -> Arrays:
    """Return a classifier that knows nothing: ten digits, 64 grey values."""
    return {"coef": np.zeros((10, 64)), "intercept": np.zeros(10)}


def classifier(arrays: Arrays, learning_rate: float, seed: int = 0) -> SGDClassifier:
    """Make a scikit-learn classifier of these arrays."""
    model = SGDClassifier(
        loss="log_loss", alpha=0.0, learning_rate="constant", eta0=learning_rate, random_state=seed
    )
    model.partial_fit(np.zeros((1, 64)), [0], classes=np.arange(10))
    model.coef_, model.intercept_ = arrays["coef"].copy(), arrays["intercept"].copy()
    return model


def arrays_of(model: SGDClassifier) -> Arrays:
    """Return the arrays of a classifier."""
    return {"coef": model.coef_, "intercept": model.intercept_}


@cache
def load_data(client: int, clients: int) -> tuple[Data, Data]:
    """Return the pictures of one client, to train on and to test on.

    Every second client holds the camera upside down: what is a 6 to some is a 9 to others.
    """
    pictures, digits = load_digits(return_X_y=True)
    mine = np.random.default_rng(0).permutation(len(digits))[client::clients]
    x, y = pictures[mine] / 16, digits[mine]
    if client % 2:
        x = x[:, ::-1].copy()
    border = len(mine) * 4 // 5
    return (x[:border], y[:border]), (x[border:], y[border:])
