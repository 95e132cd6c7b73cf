"""Replies that no client made: a model of any size, its mask, and a grid that answers by itself.

All replies of a grid share one set of array bytes, so that making them costs neither time nor
memory; the server reads each as if it had just come in, and holds one at a time.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from benchmarks.grid import AnsweringGrid
from caafp_app.protocol.gradient import SparseGradient, pack_gradient
from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import ARRAYS, Action, Answer, Request, to_record

WIDTH = 1000
EXAMPLES = 100


def make_layout(weights: int) -> Layout:
    """Describe a model of one layer: the whole of it in one slice is the hardest case."""
    rows = max(weights // WIDTH, 1)
    arrays: dict[str, NDArray[Any]] = {
        "layer.weight": np.broadcast_to(np.float32(0), (rows, WIDTH)),
        "layer.bias": np.zeros(WIDTH, dtype=np.float32),
    }
    return Layout.of(arrays)


def make_mask(layout: Layout, density: float, rng: np.random.Generator) -> Mask:
    """Draw a mask of this density."""
    if density == 1.0:
        return Mask.full(layout)
    bits = np.zeros(layout.weight_count, dtype=np.bool_)
    for layer in layout.segments:
        size = layer.stop - layer.start
        chosen = rng.choice(size, int(size * density), replace=False, shuffle=False)
        bits[layer.start + chosen] = True
    return Mask(layout, bits)


def make_model(layout: Layout, rng: np.random.Generator) -> FlatModel:
    """Draw weights."""
    weights = rng.standard_normal(layout.weight_count, dtype=np.float32)
    weights *= np.float32(0.05)
    return FlatModel(weights, np.zeros(layout.rest_count, dtype=np.float32), {})


def make_arrays(
    mask: Mask, rng: np.random.Generator, gradients: int = 0
) -> tuple[dict[str, NDArray[Any]], float]:
    """Draw one client's update, float32, and `gradients` gradients; return arrays and scale."""
    values = rng.standard_normal(mask.count, dtype=np.float32)
    values *= np.float32(1e-3)
    rest = np.full(mask.layout.rest_count, 1e-3, dtype=np.float32)
    arrays: dict[str, NDArray[Any]] = {"values": values, "rest": rest}
    scale = 0.0
    if gradients:
        index = np.sort(rng.choice(mask.inactive, gradients, replace=False))
        value = rng.standard_normal(gradients, dtype=np.float32)
        gaps, shares, scale = pack_gradient(SparseGradient(index, value), mask)
        arrays |= {"gradient-index": gaps, "gradient-value": shares}
    return arrays, scale


class GeneratedGrid(AnsweringGrid):
    """Nodes ``1 .. count`` that answer at once, one after the other.

    Parameters
    ----------
    count : int
        Number of nodes.

    Attributes
    ----------
    arrays : dict of ndarray, scale : float
        What the next replies hold; from `make_arrays`.
    between : callable or None
        Called before each reply is handed out: what is timed alternately with the server's work.
    seconds : list of float
        What the caller took for each reply but the last, from getting it to asking for the next:
        CPU time of its thread.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.between: Callable[[], None] | None = None
        self.seconds: list[float] = []
        self._record = ArrayRecord()
        self._scale = 0.0
        self._digest = ""
        self._handed_out = 0.0

    def answer_with(self, mask: Mask, arrays: dict[str, NDArray[Any]], scale: float) -> ArrayRecord:
        """Let the replies from now on hold these arrays, packed by this mask."""
        self._record, self._scale, self._digest = to_record(arrays), scale, mask.digest
        self.seconds, self._handed_out = [], 0.0
        return self._record

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand out the next reply."""
        now = time.thread_time()
        if self._handed_out:
            self.seconds.append(now - self._handed_out)
        if self.between is not None:
            self.between()
        replies = [self.reply()] if self.waiting else []
        self._handed_out = time.thread_time()
        return replies

    def answer(self, message: Message) -> Message:
        """Return a reply that holds the arrays."""
        request = Request.from_records(message.content)
        label = f"client-{message.metadata.dst_node_id:06d}"
        told = {"action": request.action, "round": request.round}
        if request.action is Action.DESCRIBE:
            content = Answer(label, EXAMPLES, **told).to_records()
        else:
            answer = Answer(label, **told, mask_digest=self._digest, gradient_scale=self._scale)
            content = answer.to_records()
            content[ARRAYS] = self._record
            if self._scale:
                content.config_records["caafp"]["gradient-scale"] = self._scale
            content["metrics"] = MetricRecord({"num-examples": EXAMPLES})
        return Message(content, reply_to=message)


def dense_record(arrays: dict[str, NDArray[Any]]) -> RecordDict:
    """Make a reply of Flower's own kind: the whole model and the number of examples."""
    metrics = MetricRecord({"num-examples": EXAMPLES})
    return RecordDict({"arrays": to_record(arrays), "metrics": metrics})
