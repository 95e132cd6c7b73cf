"""A grid that runs a ClientApp in this process: strategies are tested without Ray or servers."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from numpy.typing import NDArray

from caafp_app.engine.grid import InProcessGrid
from caafp_app.errors import ProtocolError
from caafp_app.protocol.payload import attached, detached

Tamper = Callable[[Message, Message], Message | None]


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@dataclass(frozen=True)
class Passage:
    """A message that went over the wire, ``down`` or ``up``: our header, and bytes by array.

    `nbytes` is the length of all objects that Flower makes of it; 0 if not serialised.
    """

    direction: str
    node: int
    nbytes: int
    header: ConfigRecord = field(default_factory=ConfigRecord)
    arrays: dict[str, int] = field(default_factory=dict)


class LocalGrid(InProcessGrid):
    """Nodes are contexts; pushing a message runs the app at once.

    `order` shuffles replies, so that nothing may depend on their order. Without `serialise` no
    message passes through Flower's wire format, and an app works on the very message that was sent.
    ``tamper(request, reply)`` returns the reply, or None to lose it. `duplicate` hands every reply
    out twice. Node ids are random, as Flower's are.
    """

    def __init__(
        self,
        app: ClientApp,
        node_configs: list[Mapping[str, Any]],
        run_config: Mapping[str, Any] | None = None,
        *,
        order: np.random.Generator | None = None,
        serialise: bool = True,
        tamper: Tamper | None = None,
        duplicate: bool = False,
    ) -> None:
        super().__init__()
        self.app = app
        # All of one length as protobuf writes them: equal runs send equal numbers of bytes.
        ids = np.random.default_rng().integers(1 << 61, 1 << 62, len(node_configs))
        self.contexts = {
            int(node): Context(1, int(node), dict(config), RecordDict(), dict(run_config or {}))
            for node, config in zip(ids, node_configs, strict=True)
        }
        self.order = order
        self.serialise = serialise
        self.tamper = tamper
        self.duplicate = duplicate
        self.offline: set[int] = set()
        self.requests: list[Message] = []
        self.passages: list[Passage] = []
        self._replies: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        """Nodes that are online."""
        return [node for node in self.contexts if node not in self.offline]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run each message and keep its reply."""
        ids = []
        for message in messages:
            message_id = self.number(message)
            ids.append(message_id)
            self.requests.append(message)
            node = message.metadata.dst_node_id
            arrived = self._wire(message, "down", node)
            if node in self.offline:
                continue
            reply: Message | None
            try:
                reply = self.app(arrived, self.contexts[node])
            except Exception as error:
                reply = Message(Error(2, f"{type(error).__name__}: {error}"), reply_to=message)
            reply.metadata.__dict__["_reply_to_message_id"] = message_id
            reply.metadata.__dict__["_src_node_id"] = node
            if self.tamper is not None:
                reply = self.tamper(message, reply)
            if reply is not None:
                self._replies[message_id] = self._wire(reply, "up", node)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand replies out, in any order."""
        ready = [i for i in message_ids if i in self._replies]
        if self.order is not None:
            ready = [ready[k] for k in self.order.permutation(len(ready))]
        replies = [self._replies.pop(i) for i in ready]
        return replies + replies if self.duplicate else replies

    def _wire(self, message: Message, direction: str, node: int) -> Message:
        """Send a message over the wire, and note what went."""
        contents: dict[str, bytes] = {}
        if self.serialise:
            objects = get_all_nested_objects(message)
            contents = {key: value.deflate() for key, value in objects.items()}
        records = message.content if message.has_content() else RecordDict()
        arrays: dict[str, NDArray[Any]] = {}
        with suppress(ProtocolError):  # one that was tampered with may be unreadable
            arrays = attached(records)
        self.passages.append(
            Passage(
                direction,
                node,
                sum(len(content) for content in contents.values()),
                detached(records).config_records.get("caafp", ConfigRecord()),
                {name: array.nbytes for name, array in arrays.items()},
            )
        )
        if not self.serialise:
            return message
        copy = inflate_object_from_contents(message.object_id, contents)
        copy.metadata.__dict__["_message_id"] = message.metadata.message_id
        return copy
