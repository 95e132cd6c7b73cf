"""A federation without training, in this process: real strategy, real mod, an app that drifts.

The app returns what it received plus a small random step, and random gradients where they are asked
for, with the metrics of our own app. So every message is one of a real run, but for the accuracy.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from benchmarks.grid import AnsweringGrid
from caafp_app.protocol.description import Description
from caafp_app.protocol.messages import (
    GRADIENT,
    Action,
    Request,
    from_record,
    is_ours,
    to_record,
)
from caafp_app.protocol.mod import SparseMod
from caafp_app.runs.ledger import Direction

Record = Callable[[Direction, Message], None]
EXAMPLES = 280
TEST_EXAMPLES = 60
_STEP = 1e-3


def make_app(labels: Sequence[str]) -> ClientApp:
    """Make the app of nodes whose ``partition-id`` is a place among `labels`."""

    def describe(context: Context) -> Description:
        place = int(context.node_config["partition-id"])
        return Description(labels[place], EXAMPLES, len(labels))

    app = ClientApp(mods=[SparseMod(describe)])
    rng = np.random.default_rng(0)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        request = Request.from_records(message.content) if is_ours(message.content) else None
        received = from_record(message.content, "arrays")
        content = RecordDict({"arrays": to_record(_moved(received, rng))})
        metrics: dict[str, int | float] = {"num-examples": EXAMPLES, "train-loss": 0.5}
        if request is not None and request.action is Action.PERSONALISE:
            metrics |= {"personal-accuracy": 0.9, "personal-loss": 0.3}
        if request is not None and request.evaluate:
            metrics |= {
                "cluster-accuracy": 0.8,
                "cluster-loss": 0.6,
                "test-examples": TEST_EXAMPLES,
            }
        if request is not None and (request.gradient_counts or request.action is Action.SALIENCY):
            content[GRADIENT] = to_record(_moved(received, rng))
        content["metrics"] = MetricRecord(dict(metrics))
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        metrics = {"num-examples": TEST_EXAMPLES, "cluster-accuracy": 0.8, "cluster-loss": 0.6}
        return Message(RecordDict({"metrics": MetricRecord(dict(metrics))}), reply_to=message)

    return app


def _moved(arrays: Mapping[str, NDArray[Any]], rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Add a random step to each array; a pruned weight moves too: the mod puts the mask back."""
    return {
        name: array + np.float32(_STEP) * rng.standard_normal(array.shape, dtype=np.float32)
        for name, array in arrays.items()
    }


class EchoGrid(AnsweringGrid):
    """Nodes in this process, served one after the other as their replies are asked for.

    Parameters
    ----------
    app : ClientApp
    count : int
        Number of nodes.
    record : callable, optional
        Told of every message that `send_and_receive` passes, for strategies that keep no ledger.
    look : callable, optional
        Told of every request before it is served.
    """

    def __init__(
        self,
        app: ClientApp,
        count: int,
        *,
        record: Record | None = None,
        look: Callable[[Message], None] | None = None,
    ) -> None:
        super().__init__(count)
        self.app = app
        self.record = record
        self.look = look
        self.contexts = {
            number: Context(
                1,
                number,
                {"partition-id": number - 1, "num-partitions": count},
                RecordDict(),
                {},
            )
            for number in range(1, count + 1)
        }

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push and pull, and record both, for strategies that keep no ledger."""
        batch = list(messages)
        for message in batch:
            self._note("down", message)
        replies = list(super().send_and_receive(batch))
        for reply in replies:
            self._note("up", reply)
        return replies

    def _note(self, direction: Direction, message: Message) -> None:
        if self.record is not None:
            self.record(direction, message)

    def answer(self, message: Message) -> Message:
        """Run the app."""
        if self.look is not None:
            self.look(message)
        return self.app(message, self.contexts[message.metadata.dst_node_id])
