"""Somebody else's project: softmax regression in numpy, written for FedAvg, not for us.

The one line that a user adds is ``mods=[sparse_mod]``. It trains densely, whatever the mask.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from numpy.typing import NDArray

from caafp_app.protocol.mod import sparse_mod

FEATURES, CLASSES, GROUPS, TEST = 12, 3, 2, 30
WEIGHTS = 2 * FEATURES * CLASSES

Arrays = list[NDArray[np.float32]]


def windows(part: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Data of one client; part k is of group k % 2 and has 40 + 3 k training examples."""
    truth = np.random.default_rng([7, part % GROUPS]).normal(size=(FEATURES, CLASSES))
    rng = np.random.default_rng([8, part])
    x = rng.normal(size=(40 + 3 * part + TEST, FEATURES)).astype(np.float32)
    return x, (x @ truth).argmax(1)


def initial() -> ArrayRecord:
    """Weights of the features, of their squares, and a bias."""
    rng = np.random.default_rng(9)
    shapes = [(FEATURES, CLASSES), (FEATURES, CLASSES), (CLASSES,)]
    return ArrayRecord([rng.normal(0, 0.1, shape).astype(np.float32) for shape in shapes])


def slopes(model: Arrays, x: NDArray[Any], y: NDArray[Any]) -> tuple[Arrays, float, float]:
    """Gradient of the mean cross-entropy, the loss, and the accuracy."""
    first, second, bias = model
    squares = x * x - 1
    logits = x @ first + squares @ second + bias
    logits = logits - logits.max(1, keepdims=True)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss = float(-np.log(shares[np.arange(len(y)), y] + 1e-12).mean())
    accuracy = float((logits.argmax(1) == y).mean())
    shares[np.arange(len(y)), y] -= 1
    shares /= len(y)
    gradient = [x.T @ shares, squares.T @ shares, shares.sum(0)]
    return [part.astype(np.float32) for part in gradient], loss, accuracy


def descend(model: Arrays, x: NDArray[Any], y: NDArray[Any], epochs: int = 3) -> Arrays:
    """Train densely."""
    for _ in range(epochs):
        gradient, _, _ = slopes(model, x, y)
        model = [w - np.float32(0.5) * g for w, g in zip(model, gradient, strict=True)]
    return model


def trained(part: int, model: Arrays) -> tuple[Arrays, int]:
    """What a client makes of a model, and of how many examples."""
    x, y = windows(part)
    return descend(model, x[:-TEST], y[:-TEST]), len(y) - TEST


def averaged(parts: Iterable[int], model: Arrays) -> Arrays:
    """The mean of what clients make of a model, by their examples."""
    local, sizes = zip(*(trained(part, model) for part in parts), strict=True)
    return [np.average(arrays, axis=0, weights=sizes) for arrays in zip(*local, strict=True)]


Seen = list[tuple[str, int, Arrays]]
"""What the app was handed: to train or to evaluate, by which client, which model."""


def make_app(
    seen: Seen | None = None,
    mods: Sequence[Mod] = (sparse_mod,),
    *,
    evaluates: bool = True,
    data: Callable[[int], tuple[NDArray[np.float32], NDArray[np.int64]]] = windows,
) -> ClientApp:
    """Build the app; `seen` is told of what it gets; it need not have an evaluate function."""
    app = ClientApp(mods=list(mods))
    seen = [] if seen is None else seen

    def received(kind: str, message: Message, context: Context) -> Arrays:
        model = message.content["arrays"].to_numpy_ndarrays()
        seen.append((kind, int(context.node_config["partition-id"]), model))
        return model

    @app.train()
    def train(message: Message, context: Context) -> Message:
        x, y = data(int(context.node_config["partition-id"]))
        x, y = x[:-TEST], y[:-TEST]
        model = descend(received("train", message, context), x, y)
        _, loss, _ = slopes(model, x, y)
        metrics = MetricRecord({"train_loss": loss, "num-examples": len(y)})
        content = RecordDict({"arrays": ArrayRecord(model), "metrics": metrics})
        return Message(content, reply_to=message)

    if not evaluates:
        return app

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        x, y = data(int(context.node_config["partition-id"]))
        x, y = x[-TEST:], y[-TEST:]
        _, loss, accuracy = slopes(received("evaluate", message, context), x, y)
        metrics = MetricRecord(
            {"eval_loss": loss, "eval_acc": accuracy, "num-examples": len(y) + 1}
        )
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app
