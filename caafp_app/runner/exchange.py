"""Sending messages and receiving their replies, as they come, until a deadline.

Flower's ``Grid.send_and_receive`` waits for the last reply before it returns the first one, sleeps
3 s between polls over HTTP, and comes back silently short at its timeout. This one polls promptly
with a growing pause, and knows who did not answer. It never asks for more replies at once than fit
its memory. It is also the one place where bytes are counted.
"""

import time
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from statistics import median

from flwr.app import Message
from flwr.serverapp import Grid

from caafp_app.errors import RunError
from caafp_app.runs.ledger import Direction, Ledger

FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.25
GROWTH = 1.3
REST = 10.0
"""A pause is at least so many times as long as a poll that brought nothing: with thousands of
replies outstanding that takes milliseconds, and simulated clients want the same cores."""
HELD_BYTES = 64 << 20
"""Replies asked for at once are at most so many bytes together, or one: a grid hands out lists."""

BATCH = 256
"""Messages handed to the grid at once: it sends them in one HTTP request, each a kilobyte or so."""

LEAST_WAIT = 1.0
"""Seconds of an exchange that nobody is too slow for."""


@dataclass(frozen=True)
class Quorum:
    """How many replies an exchange needs, and how long it waits for them and for more.

    Attributes
    ----------
    replies : int
        That are of use: an error, or what is refused, is none. 0: any number, even none.
    grace : float
        Seconds beyond the timeout; no longer than until there are as many replies.
    patience : float
        Once there are as many, the others are waited for until so many times the median of their
        answering times, at least `LEAST_WAIT`. 0, or without `replies`: until the timeout.
    """

    replies: int = 0
    grace: float = 0.0
    patience: float = 0.0


NO_QUORUM = Quorum()
"""Whatever comes until the timeout."""


class Exchange:
    """Messages out, replies in, by Flower's grid; every message is recorded in the ledger.

    `stop` is asked while replies are waited for; true: the run is to end. `clock` and `sleep` are
    replaced in tests.

    Attributes
    ----------
    missing : tuple of int
        Nodes whose answer did not come in the last `run`: late, out of reach, or lost on the way.
    bytes_by_node : Counter of int
        Sent to a node and received from it, in all exchanges.
    """

    def __init__(
        self,
        grid: Grid,
        ledger: Ledger,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.grid = grid
        self.ledger = ledger
        self.missing: tuple[int, ...] = ()
        self.bytes_by_node: Counter[int] = Counter()
        self._clock = clock
        self._sleep = sleep
        self._stop = stop
        self._outstanding: dict[str, int] = {}
        self._lost: list[int] = []
        self._largest = 1  # bytes of the largest message of this exchange
        self._asking = 0.0  # seconds that the last poll took that brought nothing
        self._phase = ""
        self._round = 0

    def run(
        self,
        messages: Iterable[Message],
        *,
        phase: str,
        round: int,
        timeout: float,
        quorum: Quorum = NO_QUORUM,
        taken: Callable[[], int] = lambda: 0,
    ) -> Iterator[Message]:
        """Send `messages` and yield each reply once, in order of arrival.

        More messages may be sent with `send` while the replies are consumed; theirs are yielded
        too. The caller should drop each reply before it asks for the next: nothing here keeps one.
        No reply is waited for after `timeout` seconds, but for the `quorum`, of which `taken` tells
        how many replies were of use so far. Raises RunError if the run is to end.
        """
        self._phase, self._round = phase, round
        self._outstanding, self._lost = {}, []
        self._largest, self._asking = 1, 0.0
        self.missing = ()
        began, times = self._clock(), list[float]()
        deadline = began + timeout
        self.send(messages)
        pause = FIRST_PAUSE / GROWTH
        while self._outstanding:
            answered = False
            for reply in self._ready():
                answered = True
                # A reply is counted once, even if the grid hands it out twice.
                node = self._outstanding.pop(reply.metadata.reply_to_message_id, None)
                if node is None:
                    continue
                self._record("up", reply)
                # The SuperLink answers in its own name for a node that is gone.
                if reply.metadata.src_node_id != node:
                    self._lost.append(node)
                    continue
                yield reply
                del reply
                if taken() > len(times):
                    insort(times, self._clock() - began)
            if self._stop():
                raise RunError(f"told to end while {phase}, round {round}, was going on")
            left = deadline - self._clock()
            if taken() < quorum.replies:
                left += quorum.grace
            elif quorum.replies and quorum.patience and times:
                enough = began + max(quorum.patience * median(times), LEAST_WAIT)
                left = min(left, enough - self._clock())
            if left <= 0:
                break
            pause = FIRST_PAUSE if answered else min(pause * GROWTH, LONGEST_PAUSE)
            if self._outstanding:
                self._sleep(min(max(pause, REST * self._asking), LONGEST_PAUSE, left))
        self.missing = (*self._lost, *self._outstanding.values())
        self._outstanding = {}

    def send(self, messages: Iterable[Message]) -> None:
        """Send messages whose replies the `run` in progress will yield."""
        waiting = iter(messages)
        while batch := list(islice(waiting, BATCH)):
            for message in batch:
                self._record("down", message)
            # For a message that could not be pushed the grids return None, or nothing at all.
            pushed = set(self.grid.push_messages(batch))
            for message in batch:
                if message.metadata.message_id in pushed:
                    self._outstanding[message.metadata.message_id] = message.metadata.dst_node_id
                else:
                    self._lost.append(message.metadata.dst_node_id)

    def _ready(self) -> Iterator[Message]:
        """Ask for each outstanding reply once, some at a time, and hand on those that are there."""
        asked = deque(self._outstanding)
        while asked:
            # A reply is about as long as the longest message that was seen of this exchange.
            count = max(1, HELD_BYTES // self._largest)
            window = [asked.popleft() for _ in range(min(count, len(asked)))]
            began = self._clock()
            replies = deque(self.grid.pull_messages(window))
            if not replies:
                self._asking = self._clock() - began
            while replies:
                yield replies.popleft()

    def _record(self, direction: Direction, message: Message) -> None:
        size = self.ledger.record(direction, self._phase, message, round=self._round)
        told = message.metadata
        self.bytes_by_node[told.dst_node_id if direction == "down" else told.src_node_id] += size
        self._largest = max(self._largest, size)
