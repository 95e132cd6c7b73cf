"""A grid in this process, whose nodes answer by a function when their replies are asked for."""

from collections import deque
from collections.abc import Iterable
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity


class AnsweringGrid(Grid):
    """Nodes ``1 .. count``; a subclass says what a node answers.

    Parameters
    ----------
    count : int
        Number of nodes.

    Attributes
    ----------
    pushed : deque of Message
        Messages that were not answered yet.
    """

    def __init__(self, count: int) -> None:
        # What a running app gets from Flower; messages cannot be made without it.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.count = count
        self.pushed: deque[Message] = deque()
        self.messages = 0

    def answer(self, message: Message) -> Message:
        """Return what the node answers to a message."""
        raise NotImplementedError

    def reply(self) -> Message:
        """Answer the message that was pushed first."""
        message = self.pushed.popleft()
        reply = self.answer(message)
        reply.metadata.__dict__["_reply_to_message_id"] = message.metadata.message_id
        reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id
        return reply

    def set_run(self, run: object) -> None:
        """Do nothing."""

    @property
    def run(self) -> Any:
        """Nothing."""
        return None

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Not used."""
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes."""
        return range(1, self.count + 1)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages."""
        ids = []
        for message in messages:
            self.messages += 1
            # As long as Flower's own, for the bytes.
            message.metadata.__dict__["_message_id"] = f"{self.messages:064x}"
            ids.append(message.metadata.message_id)
            self.pushed.append(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Answer all that were pushed."""
        return [self.reply() for _ in range(len(self.pushed))]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push and pull."""
        return self.pull_messages(self.push_messages(messages))
