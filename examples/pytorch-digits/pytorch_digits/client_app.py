"""The ClientApp: as for FedAvg, but for the mod and the mask."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from caafp_app import current_mask, masked, sparse_mod
from pytorch_digits.task import Net, accuracy, load_data
from pytorch_digits.task import train as train_model

app = ClientApp(mods=[sparse_mod])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received model on this client's pictures, inside its mask."""
    model, (data, _) = _prepare(message, context)
    settings, config = context.run_config, message.content["config"]
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["learning-rate"])
    seed = 1000 * config["server-round"] + context.node_config["partition-id"]
    # None, and nothing is masked, while the model is dense and with FedAvg.
    with masked(model, current_mask(context), optimizer):
        train_model(model, optimizer, data, settings["local-epochs"], seed)
    metrics = MetricRecord({"num-examples": len(data)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Test the received model on this client's pictures."""
    model, (_, data) = _prepare(message, context)
    metrics = MetricRecord({"num-examples": len(data), "accuracy": accuracy(model, data)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context):
    torch.set_num_threads(1)
    model = Net()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    node = context.node_config
    return model, load_data(node["partition-id"], node["num-partitions"])
