"""An exchange that goes on: who was asked, and what each one's reply must match."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flwr.app import Message

from caafp_app.runner.exchange import Quorum
from caafp_app.runner.options import WireFormat
from caafp_app.runner.replies import Expected
from caafp_app.runner.roster import Client
from caafp_app.runner.summed import Summed
from caafp_app.runner.tally import Tally


@dataclass
class Asked:
    """A client that was asked and has not answered yet."""

    client: Client
    summed: Summed
    expected: Expected
    retried: bool = False


@dataclass
class Opened:
    """An exchange whose messages are written, and whose replies are still to come.

    Attributes
    ----------
    summed, tally, quorum
        What will be filled by the replies, and how many are waited for.
    messages : list of Message
    waiting : dict
        Who has not answered yet, by label in alphabetic order.
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


def waiting_for(summed: Sequence[Summed], round_: int, wire: WireFormat) -> dict[str, Asked]:
    """Note what each client's reply must match, by label in alphabetic order."""
    asked = {}
    for one in summed:
        query = one.query
        for client in query.clients:
            expected = Expected(
                query.action,
                round_,
                client.label,
                query.model.mask,
                wire.up,
                wire.rest,
                sum(query.gradients),
            )
            asked[client.label] = Asked(client, one, expected)
    return dict(sorted(asked.items()))
