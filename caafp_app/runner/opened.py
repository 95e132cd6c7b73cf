"""An exchange that goes on: who was asked, and what will be filled by the replies."""

from collections.abc import Iterable
from dataclasses import dataclass

from flwr.app import Message

from caafp_app.runner.exchange import Quorum
from caafp_app.runner.roster import Client
from caafp_app.runner.summed import Summed
from caafp_app.runner.tally import Tally


@dataclass
class Asked:
    """A client that was asked and has not answered yet."""

    client: Client
    summed: Summed
    retried: bool = False


@dataclass
class Opened:
    """An exchange whose messages are written, and whose replies are still to come.

    `waiting` holds who has not answered yet, by label in alphabetic order.
    """

    summed: tuple[Summed, ...]
    tally: Tally
    quorum: Quorum
    messages: list[Message]
    waiting: dict[str, Asked]

    def keep(self, nodes: Iterable[int]) -> None:
        """Wait for these nodes alone: an override may leave out messages."""
        sent = set(nodes)
        for label, one in list(self.waiting.items()):
            if one.client.node not in sent:
                del self.waiting[label]
        self.tally.asked = list(self.waiting)
