"""The ClientApp."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from caafp_app import sparse_mod
from digits_app.task import accuracy, build_model, fit, load_data

app = ClientApp(mods=[sparse_mod])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received model on this client's pictures."""
    model, (x, y, _, _) = _prepare(message, context)
    settings, round_ = context.run_config, message.content["config"]["server-round"]
    seed = 1000 * round_ + context.node_config["partition-id"]
    fit(model, x, y, settings["local-epochs"], settings["learning-rate"], seed)
    metrics = MetricRecord({"num-examples": len(y)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Test the received model on this client's pictures."""
    model, (_, _, x, y) = _prepare(message, context)
    metrics = MetricRecord({"num-examples": len(y), "accuracy": accuracy(model, x, y)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context):
    torch.set_num_threads(1)
    model = build_model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    node = context.node_config
    return model, load_data(node["partition-id"], node["num-partitions"])
