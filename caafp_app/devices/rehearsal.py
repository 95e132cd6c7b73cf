"""A few messages answered here, by the app itself, before a server asks: what leaves, how long.

Nothing is estimated: real requests and replies, counted as a run's ledger counts. None is sent.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from caafp_app.datasets.resolve import NodeConfig
from caafp_app.devices.requests import requests_of
from caafp_app.errors import RunError
from caafp_app.runs.memory import peak_memory_mb
from caafp_app.runs.size import HEADER, message_bytes
from caafp_app.settings import Settings


@dataclass(frozen=True)
class Rehearsed:
    """One message and its reply.

    `received` and `sent` are bytes by kind, as in ``rounds.jsonl``. `fields` name what is told
    besides arrays. `seconds` leave out the start of a process.
    """

    name: str
    received: Mapping[str, int]
    sent: Mapping[str, int]
    fields: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Rehearsal:
    """All of them, and the most memory that this process had by then, in MB (None: unknown)."""

    replies: list[Rehearsed]
    memory_mb: float | None


def rehearse(app: ClientApp, settings: Settings, node_config: NodeConfig) -> Rehearsal:
    """Answer one message of each kind that a server of these settings sends.

    The ``state-dir`` of `node_config` stays untouched. Raises RunError, with the app's reason, if
    it refuses one.
    """
    # A message cannot be made outside of one of Flower's tasks.
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    replies = []
    with tempfile.TemporaryDirectory(prefix="caafp-node-") as folder:
        own = {**node_config, "state-dir": folder}
        context = Context(1, 1, own, RecordDict(), dict(settings.to_dict()))
        for name, records in requests_of(settings):
            message = Message(records, 1, MessageType.TRAIN)
            received = message_bytes(message)
            began = time.perf_counter()
            reply = app(message, context)
            seconds = time.perf_counter() - began
            if reply.has_error():
                raise RunError(f"{name}: expected an answer, found {reply.error.reason}")
            fields = _fields(reply.content)
            replies.append(Rehearsed(name, received, message_bytes(reply), fields, seconds))
    return Rehearsal(replies, peak_memory_mb())


def _fields(records: RecordDict) -> tuple[str, ...]:
    header = [name for name, value in records[HEADER].items() if not isinstance(value, bytes)]
    metrics = [name for record in records.metric_records.values() for name in record]
    return (*header, *metrics)
