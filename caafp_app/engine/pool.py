"""Clients on a CPU: a pool of processes, each of which answers one message at a time.

Measured on two cores, training har-cnn stacked takes 1.1 to 1.4 times as much processor time as one
client after another, and keeps one core idle besides. So on a CPU clients share the cores instead,
as with Ray, and the numbers are those of Ray to the last bit.

Messages and what clients keep travel between the processes in Flower's own format.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing.process import BaseProcess
from threading import Thread
from types import ModuleType
from typing import NamedTuple

from flwr.app import Context, Message
from flwr.common.serde import (
    message_from_proto,
    message_to_proto,
    recorddict_from_proto,
    recorddict_to_proto,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

from caafp_app.datasets.base import ClientData
from caafp_app.datasets.resolve import load_client
from caafp_app.engine.early import FORKS, start_early
from caafp_app.errors import RunError
from caafp_app.settings import DataSettings, Scalar

_KEPT_CLIENTS = 64
"""Clients whose data a process keeps: with thousands it is loaded again."""


class Sent(NamedTuple):
    """A message or a reply, and what its client keeps, as bytes."""

    message: bytes
    state: bytes
    node: int
    node_config: tuple[tuple[str, Scalar], ...]


class Pool:
    """Processes that answer messages, so many at once, with the flat settings of the run."""

    def __init__(self, config: Mapping[str, Scalar], processes: int) -> None:
        start_early()
        context = multiprocessing.get_context("forkserver" if FORKS else "spawn")
        self._executor = ProcessPoolExecutor(
            processes, context, initializer=_begin, initargs=(dict(config),)
        )
        # Start while the server makes its first model.
        with _without_script():
            self._executor.submit(os.getpid)

    def __call__(self, messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message]:
        """Answer messages, each to another client; update what the clients keep.

        Raises RunError if a process of the pool was killed.
        """
        sent = [
            Sent(
                message_to_proto(message).SerializeToString(),
                recorddict_to_proto(context.state).SerializeToString(),
                context.node_id,
                tuple(sorted(context.node_config.items())),
            )
            for message, context in zip(messages, contexts, strict=True)
        ]
        try:
            with _without_script():
                answered = list(self._executor.map(_answer, sent))
        except BrokenProcessPool as error:
            raise RunError(
                "engine batched: a process that trains clients was killed, probably for want of "
                "memory; run fewer at once with --client-cpus 2 or more"
            ) from error
        replies = []
        for (reply, state), context in zip(answered, contexts, strict=True):
            context.state = recorddict_from_proto(ProtoRecordDict.FromString(state))
            replies.append(message_from_proto(ProtoMessage.FromString(reply)))
        return replies

    def close(self) -> None:
        """End the processes; what they have not begun is dropped."""
        self._executor.shutdown(cancel_futures=True)


@contextmanager
def _without_script() -> Iterator[None]:
    """Keep new processes from running the user's script again, as multiprocessing would."""
    script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


_config: dict[str, Scalar] = {}


def _begin(config: Mapping[str, Scalar]) -> None:
    """Prepare a process of the pool."""
    _config.update(config)
    # A run that is killed cannot end its pool, whose processes would wait for work for good.
    Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    # Ctrl-C reaches all processes of a terminal; the run ends the pool in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_with(run: BaseProcess) -> None:
    run.join()
    os._exit(1)


def _answer(sent: Sent) -> tuple[bytes, bytes]:
    from caafp_app.engine.answer import answer_all
    from caafp_app.engine.perform import one_by_one

    message = message_from_proto(ProtoMessage.FromString(sent.message))
    state = recorddict_from_proto(ProtoRecordDict.FromString(sent.state))
    context = Context(
        message.metadata.run_id, sent.node, dict(sent.node_config), state, dict(_config)
    )
    perform = one_by_one(str(_config["device"]))
    (reply,) = answer_all([message], [context], perform, _load)
    return (
        message_to_proto(reply).SerializeToString(),
        recorddict_to_proto(context.state).SerializeToString(),
    )


def _load(settings: DataSettings, node_config: Mapping[str, Scalar]) -> ClientData:
    return _kept_data(settings, tuple(sorted(node_config.items())))


@lru_cache(maxsize=_KEPT_CLIENTS)
def _kept_data(settings: DataSettings, node_config: tuple[tuple[str, Scalar], ...]) -> ClientData:
    return load_client(settings, dict(node_config))
