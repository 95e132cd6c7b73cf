"""The ClientApp: this node's data, masked training and evaluation.

It uses `sparse_mod` as any other app would: what arrives here is a dense model, and the mask is
asked of `current_mask`. `caafp_app.client` has the actions. It imports torch, so the handlers
import it, and a message that needs no torch is answered without it.
"""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from caafp_app.datasets.resolve import describe_client
from caafp_app.devices.saying import say
from caafp_app.protocol.description import Description, level_in
from caafp_app.protocol.mod import SparseMod
from caafp_app.settings import Settings


def describe(context: Context) -> Description:
    """Name this client by its data."""
    settings = Settings.from_run_config(context.run_config)
    found = describe_client(settings.data, context.node_config)
    level = level_in(context.node_config)
    shares, place = settings.pruning.level_shares, context.node_config.get("partition-id")
    simulated = isinstance(place, int) and "level" not in context.node_config
    if simulated and not settings.rounds.deadline:
        level = shares[int(place or 0) % len(shares)]  # as many devices of each level
    return Description(found.label, found.examples, found.population, found.idle, level)


mod = SparseMod(describe)
app = ClientApp(mods=[say, mod])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Do what the request asks: see `caafp_app.client.actions`."""
    return _answer(message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score the received model on this client's held-out windows."""
    return _answer(message, context)


def _answer(message: Message, context: Context) -> Message:
    from caafp_app.client.actions import answer
    from caafp_app.client.tasks import run
    from caafp_app.client.work import Work

    work = Work.of(message.content, context)
    content = run(answer(work, message.metadata.message_type), work.settings.train.device)
    return Message(content, reply_to=message)
