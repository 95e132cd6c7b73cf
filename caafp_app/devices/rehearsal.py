"""A few messages answered here, by the app itself, before a server asks: what leaves, how long.

Nothing is estimated: the requests are those of a server, the replies are made by the ClientApp from
the device's own data, and their bytes are counted as a run's ledger counts them. Nothing is sent
or kept.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flwr.app import Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from caafp_app.datasets.resolve import NodeConfig, form_on_device
from caafp_app.errors import RunError
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Request
from caafp_app.protocol.packing import encoding_rng, pack_model
from caafp_app.runs.memory import peak_memory_mb
from caafp_app.runs.size import HEADER, message_bytes
from caafp_app.settings import Settings


@dataclass(frozen=True)
class Rehearsed:
    """One message and its reply.

    Attributes
    ----------
    name : str
        What was asked.
    received, sent : mapping of str to int
        Bytes by kind, as in ``rounds.jsonl``.
    fields : tuple of str
        What is told besides arrays: names of the header's fields and of metrics.
    seconds : float
        From the request to the reply, without starting a process.
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
    """Answer one message of each kind.

    Parameters
    ----------
    app : ClientApp
        The app of this package.
    settings : Settings
        Of the run that is to come.
    node_config : mapping
        The device's; its ``state-dir`` stays untouched.

    Raises
    ------
    RunError
        The app refused a message; with its reason.
    """
    # A message cannot be made outside of one of Flower's tasks.
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    replies = []
    with tempfile.TemporaryDirectory(prefix="caafp-node-") as folder:
        own = {**node_config, "state-dir": folder}
        context = Context(1, 1, own, RecordDict(), dict(settings.to_dict()))
        for name, request in _requests(settings):
            message = Message(request.to_records(), 1, MessageType.TRAIN)
            received = message_bytes(message)
            began = time.perf_counter()
            reply = app(message, context)
            seconds = time.perf_counter() - began
            if reply.has_error():
                raise RunError(f"{name}: expected an answer, found {reply.error.reason}")
            fields = _fields(reply.content)
            replies.append(Rehearsed(name, received, message_bytes(reply), fields, seconds))
    return Rehearsal(replies, peak_memory_mb())


def _requests(settings: Settings) -> Iterator[tuple[str, Request]]:
    yield "describe", Request(Action.DESCRIBE, phase="describe")
    arrays, pruning = _initial(settings), settings.pruning
    layout = Layout.of(
        arrays, spare_first=pruning.spare_first_layer, spare_last=pruning.spare_last_layer
    )
    dense = _request(settings, arrays, Mask.full(layout))
    yield "train, dense", replace(dense, layout=layout.to_json())
    density = 1.0 - pruning.sparsity
    mask = Mask(layout, np.random.default_rng(0).random(layout.weight_count) < density)
    sparse = _request(settings, arrays, mask)
    name = f"train at density {density:.2g}"
    yield f"{name}, with a new mask", replace(sparse, mask=mask.packed)
    yield name, sparse
    counts = tuple(round(pruning.regrow * mask.bits[part].sum()) for part in layout.segments)
    yield f"{name}, before a mask update", replace(sparse, gradient_counts=counts)
    yield "personalise", replace(sparse, action=Action.PERSONALISE, phase="personalise")


def _request(settings: Settings, arrays: Mapping[str, NDArray[Any]], mask: Mask) -> Request:
    wire = settings.wire
    rng = encoding_rng(settings.run.seed, 1, "down", "")
    model = mask.layout.flatten(arrays)
    return Request(
        Action.TRAIN,
        round=1,
        seed=settings.run.seed,
        phase="prune",
        cluster=0,
        mask_digest=mask.digest,
        down=wire.down_dtype,
        up=wire.up_dtype,
        rest=wire.rest_dtype,
        arrays=pack_model(model, mask, wire.down_dtype, wire.rest_dtype, rng),
        evaluate=True,
    )


def _initial(settings: Settings) -> dict[str, NDArray[Any]]:
    from caafp_app.models import build_model
    from caafp_app.training import dump_arrays

    shape, _ = form_on_device(settings.data)
    classes = len(shape.class_names)
    return dump_arrays(build_model(settings.model.model, shape.input_shape, classes, seed=0))


def _fields(records: RecordDict) -> tuple[str, ...]:
    header = [name for name, value in records[HEADER].items() if not isinstance(value, bytes)]
    metrics = [name for record in records.metric_records.values() for name in record]
    return (*header, *metrics)
