"""The network as named arrays, and the pictures of each client."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

Params = dict[str, jax.Array]

SIZES = (64, 96, 10)


def initial_params(seed: int) -> Params:
    """Draw the weights of a perceptron from the seed (He); biases are zero."""
    params: Params = {}
    keys = jax.random.split(jax.random.key(seed), len(SIZES) - 1)
    for layer, (key, wide, out) in enumerate(zip(keys, SIZES, SIZES[1:], strict=False)):
        params[f"dense{layer}.kernel"] = jax.random.normal(key, (wide, out)) * (2 / wide) ** 0.5
        params[f"dense{layer}.bias"] = jnp.zeros(out)
    return params


def logits(params: Params, x: jax.Array) -> jax.Array:
    """Map pictures [n, 64] to logits [n, 10]."""
    last = len(SIZES) - 2
    for layer in range(last + 1):
        x = x @ params[f"dense{layer}.kernel"] + params[f"dense{layer}.bias"]
        if layer < last:
            x = jax.nn.relu(x)
    return x


def loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the mean cross-entropy."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits(params, x)), y[:, None], axis=1).mean()


@jax.jit
def step(params: Params, mask: Params, x: jax.Array, y: jax.Array, rate: float) -> Params:
    """Descend once, inside a mask: 1 where a weight may move."""
    slopes = jax.grad(loss)(params, x, y)
    return jax.tree.map(lambda w, g, m: w - rate * g * m, params, slopes, mask)


@jax.jit
def accuracy(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the share of pictures that the network recognises."""
    return (logits(params, x).argmax(1) == y).mean()


@cache
def load_data(client: int, clients: int):
    """Return the pictures of one client, to train on and to test on, each as ``(x, y)``.

    Every second client holds the camera upside down: what is a 6 to some is a 9 to others.
    """
    pictures, digits = load_digits(return_X_y=True)
    mine = np.random.default_rng(0).permutation(len(digits))[client::clients]
    x, y = (pictures[mine] / 16).astype(np.float32), digits[mine]
    if client % 2:
        x = x[:, ::-1].copy()
    border = len(mine) * 4 // 5
    return (x[:border], y[:border]), (x[border:], y[border:])
