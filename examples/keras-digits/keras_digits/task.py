"""A Keras model, and the pictures of each client."""

import os
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras  # the backend is read as it is imported

Data = tuple[NDArray[np.float64], NDArray[np.int64]]


def build_model(seed: int, learning_rate: float = 0.005) -> keras.Model:
    """Return a perceptron of 4810 weights and biases."""
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((64,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=["accuracy"])
    return model


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
