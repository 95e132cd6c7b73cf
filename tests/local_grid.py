"""A grid that runs a ClientApp in this process: strategies are tested without Ray or servers."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.task_identity import TaskIdentity

Tamper = Callable[[Message, Message], Message | None]


class LocalGrid(Grid):
    """Nodes are contexts; pushing a message runs the app at once.

    Parameters
    ----------
    app : ClientApp
    node_configs : list of mapping
        One node each; node ids are random, as Flower's are.
    run_config : mapping
        As in ``context.run_config``.
    order : numpy Generator, optional
        Shuffles replies, so that nothing may depend on their order.
    serialise : bool
        Pass every message through Flower's wire format and back.
    tamper : callable, optional
        ``tamper(request, reply) -> reply or None``; None loses the reply.
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
    ) -> None:
        # What a running app gets from Flower; messages cannot be made without it.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.app = app
        ids = np.random.default_rng().integers(1, 1 << 62, len(node_configs))
        self.contexts = {
            int(node): Context(1, int(node), dict(config), RecordDict(), dict(run_config or {}))
            for node, config in zip(ids, node_configs, strict=True)
        }
        self.order = order
        self.serialise = serialise
        self.tamper = tamper
        self.offline: set[int] = set()
        self.requests: list[Message] = []
        self._replies: dict[str, Message] = {}
        self._count = 0

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
        """Nodes that are online."""
        return [node for node in self.contexts if node not in self.offline]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run each message and keep its reply."""
        ids = []
        for message in messages:
            self._count += 1
            message.metadata.__dict__["_message_id"] = f"m{self._count}"
            ids.append(f"m{self._count}")
            self.requests.append(message)
            node = message.metadata.dst_node_id
            if node in self.offline:
                continue
            reply: Message | None
            try:
                reply = self.app(self._wire(message), self.contexts[node])
            except Exception as error:
                reply = Message(Error(2, f"{type(error).__name__}: {error}"), reply_to=message)
            reply = self._wire(reply)
            reply.metadata.__dict__["_reply_to_message_id"] = f"m{self._count}"
            reply.metadata.__dict__["_src_node_id"] = node
            if self.tamper is not None:
                reply = self.tamper(message, reply)
            if reply is not None:
                self._replies[f"m{self._count}"] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand replies out, in any order."""
        ready = [i for i in message_ids if i in self._replies]
        if self.order is not None:
            ready = [ready[k] for k in self.order.permutation(len(ready))]
        return [self._replies.pop(i) for i in ready]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push and pull."""
        return self.pull_messages(self.push_messages(messages))

    def _wire(self, message: Message) -> Message:
        if not self.serialise:
            return message
        objects = get_all_nested_objects(message)
        contents = {key: value.deflate() for key, value in objects.items()}
        copy = inflate_object_from_contents(message.object_id, contents)
        copy.metadata.__dict__["_message_id"] = message.metadata.message_id
        return copy
