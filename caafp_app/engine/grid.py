"""A grid whose clients live in this process: Flower's interface without a SuperLink or Ray."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from caafp_app.errors import RunError
from caafp_app.settings import Settings

_FIRST_NODE = 1 << 61
"""Node ids are as long on the wire as Flower's random ones."""
_RUN = (1 << 61) + 1

Answer = Callable[[Sequence[Message], Sequence[Context]], Sequence[Message]]
"""Answers messages, each to another client: see `answer.answer_all`."""


class InProcessGrid(Grid):
    """What all grids without a SuperLink share; a subclass takes messages and gives replies."""

    def __init__(self, run_id: int = 1) -> None:
        # Flower's runtime sets these before an app is loaded; no message can be made without them.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, 1
        self.pushed = 0

    def set_run(self, run: object) -> None:
        """Do nothing: there is one run."""

    @property
    def run(self) -> NoReturn:
        """There is no SuperLink that knows of the run."""
        raise RunError("a grid in this process has no Flower run; expected nobody to ask for it")

    def create_message(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Flower's older way to make a message: use ``flwr.app.Message``."""
        raise RunError("a grid in this process takes flwr.app.Message; found create_message")

    def number(self, message: Message) -> str:
        """Give a message its id, as long as Flower's own."""
        self.pushed += 1
        message.metadata.__dict__["_message_id"] = f"{self.pushed:064x}"
        return message.metadata.message_id

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push messages and pull all replies."""
        ids = list(self.push_messages(messages))
        replies: list[Message] = []
        while len(replies) < len(ids) and (found := list(self.pull_messages(ids))):
            replies += found
        return replies


class BatchedGrid(InProcessGrid):
    """Clients of a simulation, asked together.

    A message is answered, by ``answer(messages, contexts)``, when its reply is pulled, together
    with all others of the same pull; so there are never more replies in memory than the caller
    asks for at once.
    """

    def __init__(self, settings: Settings, clients: int, answer: Answer) -> None:
        super().__init__(_RUN)
        self._answer = answer
        config = settings.to_dict()
        self._contexts = {
            _FIRST_NODE + place: Context(
                _RUN,
                _FIRST_NODE + place,
                {"partition-id": place, "num-partitions": clients},
                RecordDict(),
                dict(config),
            )
            for place in range(clients)
        }
        self._waiting: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep messages until their replies are pulled; an unknown node's is not taken."""
        ids = []
        for message in messages:
            if message.metadata.dst_node_id not in self._contexts:
                continue
            ids.append(self.number(message))
            self._waiting[ids[-1]] = message
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Answer those messages that wait, at most one to each node, and return the replies."""
        now: dict[int, Message] = {}
        for number in message_ids:
            message = self._waiting.get(number)
            if message is not None and message.metadata.dst_node_id not in now:
                now[message.metadata.dst_node_id] = self._waiting.pop(number)
        return list(self._answer(list(now.values()), [self._contexts[node] for node in now]))
