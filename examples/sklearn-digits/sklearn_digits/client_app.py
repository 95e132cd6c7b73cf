"""The ClientApp: as for FedAvg, but for the mod and the mask."""

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from caafp_app import current_mask, sparse_mod
from sklearn_digits.task import arrays_of, classifier, load_data

app = ClientApp(mods=[sparse_mod])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received classifier on this client's pictures, inside its mask."""
    model, ((x, y), _) = _prepare(message, context)
    mask = current_mask(context)  # None while the model is dense, and with FedAvg
    for _ in range(context.run_config["local-epochs"]):
        model.partial_fit(x, y)
        if mask is not None:
            model.coef_ *= mask["coef"]
    arrays = ArrayRecord({name: Array(array) for name, array in arrays_of(model).items()})
    metrics = MetricRecord({"num-examples": len(y)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Test the received classifier on this client's pictures."""
    model, (_, (x, y)) = _prepare(message, context)
    metrics = MetricRecord({"num-examples": len(y), "accuracy": model.score(x, y)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context):
    received = {name: array.numpy() for name, array in message.content["arrays"].items()}
    node, round_ = context.node_config, message.content["config"]["server-round"]
    seed = 1000 * round_ + node["partition-id"]
    model = classifier(received, context.run_config["learning-rate"], seed)
    return model, load_data(node["partition-id"], node["num-partitions"])
