"""The ClientApp: as for FedAvg, but for the mod and the mask."""

import jax
import jax.numpy as jnp
import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from caafp_app import current_mask, sparse_mod
from jax_digits.task import Params, accuracy, load_data, step

BATCH = 16

app = ClientApp(mods=[sparse_mod])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received network on this client's pictures, inside its mask."""
    params, ((x, y), _) = _prepare(message, context)
    # None while the model is dense, and with FedAvg; it has no biases.
    active = current_mask(context) or {}
    mask = {name: jnp.asarray(active.get(name, 1.0), jnp.float32) for name in params}
    mask = jax.tree.map(lambda m, w: jnp.broadcast_to(m, w.shape), mask, params)
    settings, round_ = context.run_config, message.content["config"]["server-round"]
    rng = np.random.default_rng([round_, context.node_config["partition-id"]])
    for _ in range(settings["local-epochs"]):
        order = rng.permutation(len(y))[: len(y) // BATCH * BATCH]
        for batch in order.reshape(-1, BATCH):
            params = step(params, mask, x[batch], y[batch], settings["learning-rate"])
    content = RecordDict({"arrays": _record(params)})
    content["metrics"] = MetricRecord({"num-examples": len(y)})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Test the received network on this client's pictures."""
    params, (_, (x, y)) = _prepare(message, context)
    metrics = MetricRecord({"num-examples": len(y), "accuracy": float(accuracy(params, x, y))})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context):
    received = message.content["arrays"].items()
    params: Params = {name: jnp.asarray(array.numpy()) for name, array in received}
    node = context.node_config
    return params, load_data(node["partition-id"], node["num-partitions"])


def _record(params: Params) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in params.items()})
