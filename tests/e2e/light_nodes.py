"""SuperNodes without a device behind: they speak Flower's own protocol and echo every message.

What a SuperLink and a ServerApp cost per message is then theirs alone. For `superlink_cost.py`.
"""

import contextlib
import threading
from collections.abc import Iterator

from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects
from flwr.supernode.fleet_http_connection import http_request_response

PAUSE = 0.5
"""Seconds between polls of a node that has nothing to do."""


@contextlib.contextmanager
def echoing(address: str, count: int) -> Iterator[None]:
    """Keep `count` nodes on the SuperLink at `address`, each in a thread."""
    stop = threading.Event()
    threads = [threading.Thread(target=_echo, args=(address, stop)) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _echo(address: str, stop: threading.Event) -> None:
    with http_request_response(address, insecure=True) as connection:
        _, receive, send, _, _, pull_object, push_object, confirm = connection
        while not stop.is_set():
            received = receive()
            if received is None:
                stop.wait(PAUSE)
                continue
            message, tree = received
            run, message_id = message.metadata.run_id, message.metadata.message_id
            ids = [branch.object_id for branch in iterate_object_tree(tree)]
            contents = pull_objects(ids, lambda name, run=run: pull_object(run, name))  # type: ignore[misc]
            confirm(run, message_id)
            whole = inflate_object_from_contents(message_id, contents)
            assert isinstance(whole, Message)
            whole.metadata.__dict__["_message_id"] = message_id
            reply = Message(whole.content, reply_to=whole)
            reply.metadata.__dict__["_message_id"] = reply.object_id
            wanted, session = send(reply, get_object_tree(reply), 0.0)
            for name, part in get_all_nested_objects(reply).items():
                if name in wanted:
                    push_object(run, session, name, part.deflate())
