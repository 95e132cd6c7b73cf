"""The ClientApp: as for FedAvg, but for sparse_mod between two mods of Flower's."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import arrays_size_mod, message_size_mod

from caafp_app import sparse_mod
from keras_digits.task import build_model, load_data

# The mod before sparse_mod logs what is sent, the one after it what the app gets and returns.
app = ClientApp(mods=[message_size_mod, sparse_mod, arrays_size_mod])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received model on this client's pictures."""
    model, ((x, y), _) = _prepare(message, context)
    epochs = context.run_config["local-epochs"]
    history = model.fit(x, y, batch_size=16, epochs=epochs, verbose=0).history
    metrics = MetricRecord({"num-examples": len(y), "train_loss": history["loss"][-1]})
    content = RecordDict({"arrays": ArrayRecord(model.get_weights()), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Test the received model on this client's pictures."""
    model, (_, (x, y)) = _prepare(message, context)
    loss, accuracy = model.evaluate(x, y, verbose=0)
    metrics = MetricRecord({"num-examples": len(y), "accuracy": accuracy, "loss": loss})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context):
    node, round_ = context.node_config, message.content["config"]["server-round"]
    model = build_model(1000 * round_ + node["partition-id"], context.run_config["learning-rate"])
    model.set_weights(message.content["arrays"].to_numpy_ndarrays())
    return model, load_data(node["partition-id"], node["num-partitions"])
