"""An exchange that goes on: who was asked, and what will be filled by the replies."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

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


class Replies(Sequence[Message]):
    """Replies as an override gets them: as Flower's list, but drawn as they come.

    They can be gone through again and counted. Once they are read their arrays are gone.
    """

    def __init__(self, source: Iterable[Message]) -> None:
        self._source, self._drawn = iter(source), list[Message]()

    def __iter__(self) -> Iterator[Message]:
        """Go through all replies from the first one on, wherever others have got to."""
        for place in count():
            if place == len(self._drawn):
                self._drawn.extend(islice(self._source, 1))
            if place == len(self._drawn):
                return
            yield self._drawn[place]

    def __len__(self) -> int:
        """Wait for all replies and count them."""
        self._drawn.extend(self._source)
        return len(self._drawn)

    def __getitem__(self, place: Any) -> Any:
        """Wait for all replies and return one, or some."""
        return list(self)[place]
