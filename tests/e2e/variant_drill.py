"""Our server, and clients of which some fail or lie: see drill.py.

The clients learn a softmax regression in numpy: what a fault does to a run is asked here, not how
well a network learns, and a process without torch starts in half a second.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

from caafp_app import server_app
from caafp_app.protocol.arrays import from_record, to_record
from caafp_app.protocol.description import Description
from caafp_app.protocol.mod import SparseMod
from caafp_app.protocol.payload import attach, attached, detached
from caafp_app.settings import Settings

FEATURES, CLASSES, GROUPS = 16, 4, 2
TRAIN, TEST = 3000, 2000

Arrays = dict[str, NDArray[np.float32]]


def initial() -> Arrays:
    """Return the weights that all start from."""
    rng = np.random.default_rng(9)
    weights = rng.normal(0, 0.1, (FEATURES, CLASSES)).astype(np.float32)
    return {"w": weights, "b": np.zeros(CLASSES, np.float32)}


def windows(part: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the data of one client, of group part % 2."""
    truth = np.random.default_rng([7, part % GROUPS]).normal(size=(FEATURES, CLASSES))
    truth[FEATURES // 2 :] = 0  # a sparse model is enough
    rng = np.random.default_rng([8, part])
    x = rng.normal(size=(TRAIN + TEST, FEATURES)).astype(np.float32)
    return x, (x @ truth).argmax(1)


def slopes(model: Arrays, x: NDArray[Any], y: NDArray[Any]) -> tuple[Arrays, float, float]:
    """Return gradient, loss and accuracy."""
    logits = x @ model["w"] + model["b"]
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    loss = float(-np.log(shares[np.arange(len(y)), y] + 1e-12).mean())
    accuracy = float((logits.argmax(1) == y).mean())
    shares[np.arange(len(y)), y] -= 1
    shares /= len(y)
    return {"w": x.T @ shares, "b": shares.sum(0)}, loss, accuracy


def train(message: Message, context: Context) -> Message:
    """Score the received model, train it, and score it again."""
    x, y = windows(int(context.node_config["part"]))
    model: Arrays = from_record(message.content, "arrays")
    _, loss, before = slopes(model, x[TRAIN:], y[TRAIN:])
    for _ in range(20):
        gradient, _, _ = slopes(model, x[:TRAIN], y[:TRAIN])
        model = {
            k: (w - np.float32(0.5) * gradient[k]).astype(np.float32) for k, w in model.items()
        }
    _, _, after = slopes(model, x[TRAIN:], y[TRAIN:])
    metrics = MetricRecord(
        {
            "num-examples": TRAIN,
            "test-examples": TEST,
            "cluster-accuracy": before,
            "cluster-loss": loss,
            "personal-accuracy": after,
        }
    )
    content = RecordDict({"arrays": to_record(model), "metrics": metrics})
    return Message(content, reply_to=message)


def changed(reply: Message, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Message:
    """Change the values of an update on its way."""
    arrays = attached(reply.content)
    if "values" in arrays:
        clean = detached(reply.content)
        attach(clean, arrays | {"values": change(arrays["values"].copy())})
        reply.content = clean
    return reply


def misbehave(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Do what the node-config says, after all that is honest has been done."""
    fault = str(context.node_config.get("fault", ""))
    asked = str(message.content["caafp"]["action"]) if message.has_content() else ""
    reply = call_next(message, context)
    if asked in ("", "describe") or reply.has_error():
        return reply
    if fault == "sleep":
        time.sleep(float(context.run_config["round-timeout"]) + 5.0)  # type: ignore[arg-type]
    elif fault == "nan":
        reply = changed(reply, lambda values: values * np.float32("nan"))
    elif fault == "scale":
        reply = changed(reply, lambda values: values * np.float32(1000))
    elif fault == "replay":
        old = context.state.get("old")
        if isinstance(old, ConfigRecord):
            reply.content["caafp"] = ConfigRecord(dict(old))
        else:
            context.state["old"] = ConfigRecord(dict(reply.content["caafp"]))
    return reply


def describe(context: Context) -> Description:
    """Name the client."""
    return Description(f"node-{context.node_config['part']}", examples=TRAIN)


client = ClientApp(mods=[misbehave, SparseMod(describe)])
client.train()(train)

server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run our ServerApp with another model."""
    run(grid, Settings.from_run_config(context.run_config))


def run(grid: Grid, settings: Settings) -> None:
    """Do what our ServerApp does, from the weights of this module."""
    ours = server_app.initial_arrays
    server_app.initial_arrays = lambda settings: initial()  # type: ignore[assignment]
    try:
        server_app.run(grid, settings)
    finally:
        server_app.initial_arrays = ours
