"""Both decoders under mutated messages: what they may do, and what they cost.

A decoder takes a message, or refuses it by an error of the package. Nothing else may come out: no
other exception, no memory for what a message only claims, no second that a client or the server
would miss. ``python -m tests.fuzz.decoders 100000`` runs that many and prints what it saw.
"""

import logging
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from caafp_app.errors import CaafpError
from caafp_app.protocol.gradient import SparseGradient, pack_gradient
from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Answer, ErrorCode, Request
from caafp_app.protocol.mod import SparseMod
from caafp_app.protocol.packing import encoding_rng, pack_model
from caafp_app.registry import AGGREGATIONS, SUMS
from caafp_app.runner.model import SparseModel
from caafp_app.runner.options import WireFormat
from caafp_app.runner.query import Query
from caafp_app.runner.replies import (
    read_answer,
    read_metrics,
    read_saliency,
    read_update,
    read_weight,
)
from caafp_app.runner.summed import Summed
from caafp_app.vectors.scan import peak_of
from tests.fuzz.mutate import mutated

MEMORY_MB = 200
"""By so much may the largest memory of the process grow: a message has some kilobytes."""
SECONDS = 20.0
"""Of the processor; no message may take more. The hash of the largest mask takes one or two."""

_FOREIGN = re.compile(r"^[A-Z]\w*(Error|Exception|Warning): ")
"""How the mod words an exception that is not the package's own; the app here raises none."""

LAYOUT = Layout.of(
    {
        "conv": np.zeros((4, 3, 5), np.float32),
        "bias": np.zeros(4, np.float32),
        "dense": np.zeros((7, 8), np.float32),
        "steps": np.zeros((), np.int64),
    }
)
CODECS = ("float32", "float16", "int8")


@dataclass
class Told:
    """What came of the messages."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    grown_mb: float = 0.0


def a_mask(rng: np.random.Generator) -> Mask:
    """Return a dense or a sparse mask."""
    if rng.random() < 0.3:
        return Mask.full(LAYOUT)
    return Mask(LAYOUT, rng.random(LAYOUT.weight_count) < 0.4)


def a_model(rng: np.random.Generator) -> FlatModel:
    """Return a model of the layout."""
    weights = rng.normal(size=LAYOUT.weight_count).astype(np.float32)
    return FlatModel(weights, np.ones(4, np.float32), {"steps": np.array(3)})


def an_answer(rng: np.random.Generator) -> tuple[RecordDict, Query, WireFormat]:
    """Return a valid answer, and what the server has asked."""
    mask, up = a_mask(rng), str(rng.choice(CODECS))
    action = Action.SALIENCY if rng.random() < 0.1 else Action.TRAIN
    arrays = pack_model(a_model(rng), mask, up, "float32", encoding_rng(1, 1, "up", "a"))
    scale = 0.0
    if not mask.is_full and action is Action.TRAIN:
        index = mask.inactive[::3].astype(np.int64)
        gradient = SparseGradient(index, rng.normal(size=index.size).astype(np.float32))
        arrays["gradient-index"], arrays["gradient-value"], scale = pack_gradient(gradient, mask)
    if action is Action.SALIENCY:
        arrays = {"values": arrays["values"]}
    answer = Answer(
        "a",
        action=action,
        round=3,
        mask_digest=mask.digest,
        arrays=arrays,
        gradient_scale=scale,
        outside=0,
    )
    records = answer.to_records()
    records["metrics"] = MetricRecord({"num-examples": 40, "cluster-accuracy": 0.5})
    zeros = np.zeros(LAYOUT.weight_count, np.float32), np.zeros(LAYOUT.rest_count, np.float32)
    model = SparseModel(FlatModel(*zeros, {}), mask)
    wants = frozenset(SUMS.builtin)
    query = Query(action, model, (), wants=wants, gradients=(LAYOUT.weight_count,))
    return records, query, WireFormat(up=up)


def serve(records: RecordDict, query: Query, wire: WireFormat) -> str:
    """Let the server read an answer and add it to a round's sums."""
    message = Message(records, 1, "train")
    try:
        answer = read_answer(message, query.action, 3, "a")
        weight = read_weight(read_metrics(message), "num-examples")
        if query.action is Action.SALIENCY:
            read_saliency(answer, query, wire)
            return "taken"
        summed, update = Summed(query, AGGREGATIONS["mean"]), read_update(answer, query, wire)
        summed.add("a", update, weight, (peak_of(update.values), peak_of(update.rest)))
        mean = summed.mean()
        assert mean is not None
        moved = query.model.moved(mean).flat
        assert np.isfinite(moved.weights).all()
        assert np.isfinite(moved.rest).all()
    except CaafpError as error:
        return f"refused: {type(error).__name__}"
    return "taken"


def a_request(rng: np.random.Generator) -> RecordDict:
    """Return a valid request."""
    action = Action(str(rng.choice([str(action) for action in Action])))
    if action is Action.DESCRIBE:
        return Request(action).to_records()
    mask, down = a_mask(rng), str(rng.choice(CODECS))
    request = Request(
        action,
        round=3,
        seed=1,
        phase="train",
        cluster=0,
        mask_digest=mask.digest,
        down=down,
        up=str(rng.choice(CODECS)),
        arrays=pack_model(a_model(rng), mask, down, "float32", encoding_rng(1, 1, "down", "")),
        layout=LAYOUT.to_json(),
        mask=None if mask.is_full else mask.packed,
        gradient_counts=() if mask.is_full else (3, 5),
        evaluate=bool(rng.random() < 0.5),
        config_key="" if rng.random() < 0.5 else "config",
    )
    records = request.to_records()
    records["config"] = ConfigRecord({"server-round": 3})
    return records


def inner_app(message: Message, context: Context) -> Message:
    """Return what came, as a client that has nothing to learn."""
    arrays = next(iter(message.content.array_records.values()), ArrayRecord())
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 4})})
    return Message(content, reply_to=message)


def ask(records: RecordDict, context: Context) -> str:
    """Let a client read a request and answer."""
    reply = SparseMod()(Message(records, 1, "train"), context, inner_app)
    if not reply.has_error():
        return "taken"
    assert reply.error.code in set(ErrorCode), reply.error
    reason = reply.error.reason or ""
    assert reason
    assert not _FOREIGN.match(reason), reason
    return f"refused: {ErrorCode(reply.error.code).name.lower()}"


def a_context() -> Context:
    """Return the state of a client that has just been started."""
    return Context(1, 1, {"label": "a"}, RecordDict(), {})


def messages(seed: int, count: int) -> Iterator[tuple[str, Callable[[], str], RecordDict]]:
    """Yield the side, a call that serves one mutated message, and the message."""
    rng = np.random.default_rng(seed)
    context = a_context()
    for number in range(count):
        if number % 2:
            records, *asked = an_answer(rng)
            bad = mutated(records, rng)
            yield "server", lambda bad=bad, asked=asked: serve(bad, *asked), bad  # type: ignore[misc]
            continue
        if number % 50 == 0:  # what a client kept of bad messages must not spoil it either
            context = a_context()
        bad = mutated(a_request(rng), rng)
        yield "client", lambda bad=bad, context=context: ask(bad, context), bad  # type: ignore[misc]


@contextmanager
def silent() -> Iterator[None]:
    """Keep Flower's log from telling of every refusal."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def fuzz(seed: int, count: int) -> Told:
    """Serve so many mutated messages, half of them on each side.

    Raises
    ------
    AssertionError
        With the seed and the number of the message that did what none may.
    """
    # What a running app gets from Flower; messages cannot be made without it.
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    told, before = Told(), _peak_mb()
    for number, (side, call, records) in enumerate(messages(seed, count)):
        began = time.process_time()  # on a busy machine a clock measures the others' work
        try:
            with silent():
                outcome = call()
        except Exception as error:
            shown = {name: dict(record) for name, record in records.items()}
            raise AssertionError(
                f"seed {seed}, message {number}, {side}: {error!r} of {shown!r:.3000}"
            ) from error
        seconds = time.process_time() - began
        told.outcomes[f"{side} {outcome}"] += 1
        told.slowest = max(told.slowest, seconds)
        told.grown_mb = _peak_mb() - before
        assert seconds < SECONDS, f"seed {seed}, message {number}, {side}: {seconds:.1f} s"
        assert told.grown_mb < MEMORY_MB, f"seed {seed}, message {number}: {told.grown_mb:.0f} MB"
    return told


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(count: int, chunk: int = 10_000) -> None:
    """Run in chunks, each of a seed of its own, and print what was seen."""
    began, outcomes, slowest, grown = time.monotonic(), Counter[str](), 0.0, 0.0
    for seed in range(-(-count // chunk)):
        told = fuzz(seed, min(chunk, count - seed * chunk))
        outcomes += told.outcomes
        slowest, grown = max(slowest, told.slowest), max(grown, told.grown_mb)
        print(f"seed {seed}: {outcomes.total()} messages, {time.monotonic() - began:.0f} s")
    for outcome, number in sorted(outcomes.items()):
        print(f"{number:8} {outcome}")
    print(f"slowest message {1000 * slowest:.0f} ms, memory grew by at most {grown:.0f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
