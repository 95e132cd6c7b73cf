"""One case of `benchmarks.server`, in a process of its own: ``-m benchmarks.server_case JSON``.

Prints one line of JSON. Alone in its process, so that its peak memory is its own.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any, Self

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from numpy.typing import NDArray

from benchmarks.generated import (
    GeneratedGrid,
    dense_record,
    make_arrays,
    make_layout,
    make_mask,
    make_model,
)
from benchmarks.memory import peak_mb
from benchmarks.report import median
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action
from caafp_app.pruning.evidence import Evidence
from caafp_app.pruning.scores import importance
from caafp_app.pruning.segments import packed_segments
from caafp_app.pruning.select import growth_counts, update_mask
from caafp_app.runner.discovery import discover
from caafp_app.runner.model import SparseModel
from caafp_app.runner.options import Options
from caafp_app.runner.query import Query
from caafp_app.runner.runner import Runner
from caafp_app.runner.summed import Summed
from caafp_app.runs.observer import Observer
from caafp_app.strategies import Pruning

PRUNING = Pruning()
REGROW = 0.05
NEXT_DENSITY = 0.9
"""A mask update leaves this share of the active weights active."""
_BEST_OF = 3  # passes of numpy, or of Flower's loop, between two replies


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes
    ----------
    way : {"caafp", "flower", "numpy", "ratio"}
        Aggregate, score and change the mask; Flower's aggregation; read and add in numpy; or this
        package's aggregation and numpy's reading and adding alternately.
    weights, replies : int
    density : float
        Share of active weights; 1: no mask.
    """

    way: str
    weights: int
    replies: int
    density: float = 1.0


def run_caafp(case: Case) -> dict[str, Any]:
    """Aggregate a round of replies, with statistics and gradients; score; change the mask."""
    server = _Server(case)
    counts = server.growth if case.density < 1 else 0
    with _Clock() as aggregation:
        server.round(1, statistics=True, gradients=counts)
    memory = peak_mb()
    with _Clock() as change:
        scores_seconds, mask_seconds = server.change_mask()
    return {
        **aggregation.per(case.replies),
        "peak_mb": peak_mb(),
        "aggregation_peak_mb": memory,
        "start_mb": server.start_mb,
        "end_round_seconds": server.end_round_seconds,
        "scores_seconds": scores_seconds,
        "mask_seconds": mask_seconds,
        "scores_and_mask_cpu_seconds": change.cpu,
    }


def run_ratio(case: Case) -> dict[str, Any]:
    """Time each reply beside a pass of numpy over the same bytes, taken in turn."""
    server = _Server(case)
    found: dict[str, Any] = {}
    for number, statistics in enumerate((False, True), start=1):
        numpy = _NumpyPass(server)
        server.grid.between = numpy
        server.round(number, statistics=statistics, gradients=0)
        ours = server.grid.seconds
        name = "statistics" if statistics else "plain"
        found[f"{name}_ms"] = 1000 * median(ours)
        found[f"{name}_numpy_ms"] = 1000 * median(numpy.seconds)
        found[f"{name}_numpy_add_ms"] = 1000 * median(numpy.adding)
        found[f"{name}_ratio"] = median(
            [mine / its for mine, its in zip(ours, numpy.seconds, strict=False)]
        )
    return found


def run_flower(case: Case) -> dict[str, Any]:
    """Aggregate dense replies as Flower's FedAvg does: all of them held, each its own bytes."""
    rng = np.random.default_rng(0)
    layout = make_layout(case.weights)
    shapes = {entry.name: entry.shape for entry in layout.entries}
    start_mb = peak_mb()
    replies = []
    for _ in range(case.replies):
        arrays = {name: np.empty(shape, dtype=np.float32) for name, shape in shapes.items()}
        for array in arrays.values():
            rng.random(dtype=np.float32, out=array)
        replies.append(dense_record(arrays))
    with _Clock() as clock:
        aggregate_arrayrecords(replies, "num-examples")
    return {
        **clock.per(case.replies),
        "peak_mb": peak_mb(),
        "start_mb": start_mb,
    }


def run_numpy(case: Case) -> dict[str, Any]:
    """Read each reply by ``np.load`` and add it to a float64 sum, without weight or check."""
    rng = np.random.default_rng(0)
    start_mb = peak_mb()
    mask = make_mask(make_layout(case.weights), case.density, rng)
    arrays, _ = make_arrays(mask, rng)
    data = dense_record({"values": arrays["values"]}).array_records["arrays"]["values"].data
    del arrays
    total = np.zeros(mask.count)
    with _Clock() as clock:
        for _ in range(case.replies):
            total += _load(data)
    return {
        **clock.per(case.replies),
        "peak_mb": peak_mb(),
        "start_mb": start_mb,
    }


class _Clock:
    """Wall and CPU seconds of a block of code; all of it runs in one thread."""

    def __enter__(self) -> Self:
        self.wall, self.cpu = -time.perf_counter(), -time.thread_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.thread_time()

    def per(self, replies: int) -> dict[str, float]:
        """Return milliseconds of both for one of so many replies."""
        return {
            "ms_per_reply": 1000 * self.wall / replies,
            "cpu_ms_per_reply": 1000 * self.cpu / replies,
        }


class _NumpyPass:
    """Reading and adding the bytes of a server's current replies, timed at each call.

    Attributes
    ----------
    seconds, adding : list of float
        CPU time of the thread, for both and for the addition alone.
    """

    def __init__(self, server: "_Server") -> None:
        self.server = server
        self.total = np.zeros(server.model.mask.count)
        self.seconds: list[float] = []
        self.adding: list[float] = []

    def __call__(self) -> None:
        data = self.server.record["values"].data
        began = time.thread_time()
        values = _load(data)
        read = time.thread_time()
        self.total += values
        ended = time.thread_time()
        self.seconds.append(ended - began)
        self.adding.append(ended - read)


class _Server:
    """One cluster's model, a runner with generated clients, and rounds of it."""

    def __init__(self, case: Case) -> None:
        self.start_mb = peak_mb()
        self.rng = np.random.default_rng(0)
        layout = make_layout(case.weights)
        mask = make_mask(layout, case.density, self.rng)
        self.model = SparseModel(make_model(layout, self.rng), mask)
        self.evidence = Evidence(mask.count)
        self.gradient: NDArray[np.float64] | None = None
        self.grid = GeneratedGrid(case.replies)
        self.record = ArrayRecord()
        self.end_round_seconds = 0.0
        self.runner = Runner(self.grid, Observer(), Options(timeout=1e6), total_rounds=2)
        discover(self.runner)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Active weights of each layer after the mask update."""
        return np.array([int(self.model.mask.count * NEXT_DENSITY)], dtype=np.int64)

    @property
    def growth(self) -> int:
        """Gradients that each reply holds."""
        active = np.array([self.model.mask.count], dtype=np.int64)
        sizes = np.array([self.model.layout.weight_count], dtype=np.int64)
        return int(growth_counts(active, self.counts, REGROW, sizes).sum())

    def round(self, number: int, *, statistics: bool, gradients: int) -> None:
        """Hold one round with all clients: requests out, replies in, model moved."""
        arrays, scale = make_arrays(self.model.mask, self.rng, gradients)
        self.record = self.grid.answer_with(self.model.mask, arrays, scale)
        del arrays
        clients = tuple(self.runner.roster.reachable())
        query = Query(
            Action.TRAIN,
            self.model,
            clients,
            wants=PRUNING.sums if statistics else frozenset(),
            gradients=(gradients,) if gradients else (),
        )
        answers = self.runner.ask([query], "prune", number)
        if answers.summed[0].replies != len(clients):
            raise RuntimeError(f"replies were refused: {answers.tally.refusals}")
        self.end_round_seconds = _timed(lambda: self._move(answers.summed[0]))
        self.runner.close(answers, {0: self.model.mask.density})

    def _move(self, summed: Summed) -> None:
        if summed.sums:
            self.evidence.add_round(summed.update, summed.sums)
        if summed.gradient is not None:
            self.gradient = summed.gradient.mean()
        mean = summed.mean()
        if mean is not None:
            self.model = self.model.moved(mean)

    def change_mask(self) -> tuple[float, float]:
        """Score all active weights and change the mask; return the seconds of both."""
        model, counts = self.model, self.counts
        segments = packed_segments(model.mask.bits, model.layout.segments)
        gradient = np.zeros(model.layout.weight_count) if self.gradient is None else self.gradient
        scores: list[NDArray[np.float64]] = []

        def score() -> None:
            active = model.mask.select(model.flat.weights)
            scores.append(importance(active, self.evidence, segments, PRUNING.mix))

        def change() -> None:
            layers = model.layout.segments
            found = update_mask(model.mask.bits, scores[0], gradient, counts, REGROW, layers)
            self.model = model.with_mask(Mask(model.layout, found))

        scoring, changing = _timed(score), _timed(change)
        if self.model.mask.count != int(counts.sum()):
            raise RuntimeError("the mask update left another number of weights than asked")
        return scoring, changing


def _load(data: bytes) -> NDArray[Any]:
    values: NDArray[Any] = np.load(BytesIO(data), allow_pickle=False)
    return values


def _timed(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


WAYS: dict[str, Callable[[Case], dict[str, Any]]] = {
    "caafp": run_caafp,
    "ratio": run_ratio,
    "flower": run_flower,
    "numpy": run_numpy,
}


def main() -> None:
    """Run the case that the first argument describes."""
    case = Case(**json.loads(sys.argv[1]))
    print(json.dumps({**asdict(case), **WAYS[case.way](case)}))


if __name__ == "__main__":
    main()
