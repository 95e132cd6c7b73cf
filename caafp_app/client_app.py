"""The ClientApp: this node's data, masked training and evaluation.

It uses `sparse_mod` as any other app would: what arrives here is a dense model, and the mask is
asked of `current_mask`. The actions are in `caafp_app.client`, which imports torch; only the
handlers import that, so that a message which needs no torch is answered without it.
"""

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from caafp_app.datasets.resolve import describe_client
from caafp_app.protocol.mod import Description, SparseMod
from caafp_app.settings import Settings


def describe(context: Context) -> Description:
    """Name this client by its data."""
    settings = Settings.from_run_config(context.run_config)
    found = describe_client(settings.data, context.node_config)
    return Description(found.label, found.examples, found.population, found.idle)


app = ClientApp(mods=[SparseMod(describe)])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Do what the request asks: see `caafp_app.client.actions`."""
    from caafp_app.client.actions import answer
    from caafp_app.client.work import Work

    return Message(answer(Work.of(message, context)), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score the received model on this client's held-out windows."""
    from caafp_app.client.work import Work

    work = Work.of(message, context)
    metrics = MetricRecord({"num-examples": len(work.data.test_y)})
    metrics.update(work.score("cluster"))
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
