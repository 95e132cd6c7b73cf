"""SuperNodes without a device behind: they speak Flower's own protocol and answer at once.

What a SuperLink and a ServerApp cost per message is then theirs alone. For `superlink_cost.py`.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects
from flwr.supernode.fleet_http_connection import http_request_response

from caafp_app.protocol.arrays import to_record

PAUSE = 3.0
"""Seconds between polls of a node that has nothing to do: as Flower's own."""


@contextlib.contextmanager
def answering(address: str, count: int) -> Iterator[list[float]]:
    """Keep nodes on a SuperLink, a thread each; yield the moments of polls that brought nothing."""
    stop = threading.Event()
    empty: list[float] = []
    threads = [
        threading.Thread(target=_answer, args=(address, number, stop, empty))
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        yield empty
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _answer(address: str, number: int, stop: threading.Event, empty: list[float]) -> None:
    with http_request_response(address, insecure=True) as connection:
        _, receive, send, _, _, pull_object, push_object, confirm = connection
        while not stop.is_set():
            received = receive()
            if received is None:
                empty.append(time.monotonic())
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
            reply = Message(_shuffled(whole.content, number), reply_to=whole)
            reply.metadata.__dict__["_message_id"] = reply.object_id
            wanted, session = send(reply, get_object_tree(reply), 0.0)
            for name, part in get_all_nested_objects(reply).items():
                if name in wanted:
                    push_object(run, session, name, part.deflate())


def _shuffled(content: RecordDict, number: int) -> RecordDict:
    """Return records of the same size with arrays of this node's own."""
    rng = np.random.default_rng(number)
    for name, record in content.array_records.items():
        content[name] = to_record({k: rng.permutation(v.numpy()) for k, v in record.items()})
    for name, config in content.config_records.items():
        content[name] = ConfigRecord({**config, "label": str(number)})
    return content
