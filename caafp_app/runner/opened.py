"""An exchange that goes on: who was asked, and what will be filled by the replies."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from flwr.app import Message

from caafp_app.runner.exchange import NO_QUORUM, Quorum
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

    tally: Tally
    summed: tuple[Summed, ...] = ()
    quorum: Quorum = NO_QUORUM
    messages: list[Message] = field(default_factory=list)
    waiting: dict[str, Asked] = field(default_factory=dict)

    def keep(self, nodes: Iterable[int]) -> None:
        """Wait for these nodes alone: an override may leave out messages."""
        sent = set(nodes)
        for label, one in list(self.waiting.items()):
            if one.client.node not in sent:
                del self.waiting[label]
        self.tally.asked = list(self.waiting)


class Replies:
    """Replies as an override gets them: as Flower's list, but drawn as they come.

    They can be gone through again and counted. Once they are read their arrays are gone.
    """

    def __init__(self, source: Iterable[Message]) -> None:
        self._source, self._drawn = iter(source), list[Message]()

    def __iter__(self) -> Iterator[Message]:
        """Go through all replies from the first one on."""
        yield from self._drawn
        for reply in self._source:
            self._drawn.append(reply)
            yield reply

    def __len__(self) -> int:
        """Wait for all replies and count them."""
        return sum(1 for _ in self)

    def __getitem__(self, place: int) -> Message:
        """Wait for all replies and return one."""
        return list(self)[place]
