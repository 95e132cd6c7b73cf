"""A grid in this process, whose nodes answer by a function when their replies are asked for."""

from collections import deque
from collections.abc import Iterable

from flwr.app import Message

from caafp_app.engine.grid import InProcessGrid


class AnsweringGrid(InProcessGrid):
    """Nodes ``1 .. count``; a subclass says what a node answers.

    Parameters
    ----------
    count : int
        Number of nodes.

    Attributes
    ----------
    waiting : deque of Message
        Messages that were not answered yet.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.waiting: deque[Message] = deque()

    def answer(self, message: Message) -> Message:
        """Return what the node answers to a message."""
        raise NotImplementedError

    def reply(self) -> Message:
        """Answer the message that was pushed first."""
        message = self.waiting.popleft()
        reply = self.answer(message)
        reply.metadata.__dict__["_reply_to_message_id"] = message.metadata.message_id
        reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id
        return reply

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes."""
        return range(1, self.count + 1)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages."""
        ids = []
        for message in messages:
            ids.append(self.number(message))
            self.waiting.append(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Answer all that were pushed."""
        return [self.reply() for _ in range(len(self.waiting))]
