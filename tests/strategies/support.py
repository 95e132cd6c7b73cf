"""Whole runs of our own app in this process, small and quick, and all that can be seen of them."""

from collections.abc import Callable, Container, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Error, Message
from numpy.typing import NDArray

from caafp_app.client_app import app
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Request, to_record
from caafp_app.protocol.packing import pack_model
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runs.checkpoint import Checkpoints, State
from caafp_app.runs.ledger import Ledger
from caafp_app.runs.observer import Observer
from caafp_app.runs.records import RoundRecord, RunReport
from caafp_app.server_app import initial_arrays
from caafp_app.settings import Settings
from caafp_app.strategies.factory import make_strategy
from caafp_app.strategies.report import ClusteredResult
from caafp_app.strategies.strategy import MethodStrategy
from tests.local_grid import LocalGrid, Tamper

TINY: dict[str, Any] = {
    "seed": 5,
    "synthetic-users": 6,
    "synthetic-windows": 20,
    "warmup-rounds": 1,
    "cluster-rounds": 1,
    "prune-rounds": 6,
    "prune-every": 2,
    "clients-per-round": 4,
    "clusters": 2,
    "local-epochs": 1,
    "finetune-epochs": 1,
    "regrow": 0.1,
}
"""8 rounds, masks updated after rounds 2, 4 and 6; a second and a half in all."""


class PowerCutError(Exception):
    """The server is gone."""


def cut() -> None:
    raise PowerCutError


class Recorder(Observer):
    """Keeps all it is told; `at` holds what to do as a round of that number and phase ends."""

    def __init__(self) -> None:
        self.plan: Sequence[RoundPlan] = ()
        self.facts: dict[str, object] = {}
        self.rounds: list[RoundRecord] = []
        self.labels: dict[str, int] = {}
        self.distances: list[tuple[list[str], NDArray[np.floating]]] = []
        self.report: RunReport | None = None
        self.at: dict[tuple[int, str], Callable[[], None]] = {}

    def on_plan(self, plan: Sequence[Any], facts: Mapping[str, object]) -> None:
        self.plan, self.facts = plan, dict(facts)

    def on_round(self, record: RoundRecord, total_rounds: int) -> None:
        self.rounds.append(record)
        self.at.get((record.round, record.phase), lambda: None)()

    def on_distances(self, labels: Sequence[str], distances: NDArray[np.floating]) -> None:
        self.distances.append((list(labels), distances))

    def on_clusters(self, labels: Mapping[str, int], note: str) -> None:
        self.labels = dict(labels)

    def on_finish(self, report: RunReport) -> None:
        self.report = report

    def round(self, number: int, phase: str | None = None) -> RoundRecord:
        """The one record of a round (of training, unless a phase is named)."""
        found = [
            record
            for record in self.rounds
            if record.round == number
            and (record.phase == phase if phase else record.phase not in ("cluster", "evaluate"))
        ]
        assert len(found) == 1
        return found[0]


class Snapshots(Checkpoints):
    """Keeps the state after each round in memory: the models of a run that goes on."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self.states: dict[int, State] = {}

    def save(self, round_: int, state: State) -> Path:
        self.states[round_] = deepcopy(state)  # evidence is added to in place
        return self.folder

    def models(self, round_: int) -> dict[int, State]:
        """What a method saves of its models after a round, by number."""
        models: dict[int, State] = self.states[round_]["method"]["models"]
        return models

    def bits(self, round_: int) -> dict[int, tuple[bytes, ...]]:
        """Mask, weights and rest of each model after a round, as bytes."""
        names = ("mask", "weights", "rest")
        return {
            number: tuple(model[name].tobytes() for name in names)
            for number, model in self.models(round_).items()
        }


@dataclass
class Run:
    """A run that has ended."""

    strategy: MethodStrategy
    result: ClusteredResult
    seen: Recorder
    grid: LocalGrid
    settings: Settings

    @property
    def ledger(self) -> Ledger:
        """All bytes of the run."""
        return self.result.report.ledger

    @property
    def label_of(self) -> dict[int, str]:
        """Labels by node."""
        return {
            passage.node: str(passage.header["label"])
            for passage in self.grid.passages
            if passage.direction == "up" and passage.header.get("action") == "describe"
        }

    def asked(self) -> dict[tuple[int, str], list[str]]:
        """Labels that were asked, by round and phase, in the order of asking."""
        found: dict[tuple[int, str], list[str]] = {}
        for passage in self.grid.passages:
            if passage.direction == "down" and passage.header["action"] != "describe":
                key = (int(passage.header["round"]), str(passage.header["phase"]))
                found.setdefault(key, []).append(self.label_of[passage.node])
        return found


def nodes(count: int) -> list[dict[str, int]]:
    """Node-configs as a simulation gives them."""
    return [{"partition-id": index, "num-partitions": count} for index in range(count)]


def request_to(action: Action, mask: Mask, arrays: Mapping[str, Any], /, **more: Any) -> Request:
    """Ask our own app for something in round 1, of a model inside a mask."""
    model = mask.layout.flatten(arrays)
    model.weights[~mask.bits] = 0
    told: dict[str, Any] = {"round": 1, "phase": "warm-up", "mask_digest": mask.digest}
    told |= {"layout": mask.layout.to_json(), "mask": None if mask.is_full else mask.packed}
    told["arrays"] = pack_model(model, mask, "float32", "float32")
    return Request(action, **{**told, **more})


@dataclass
class Setup:
    """A run that has not begun, so that a test can interfere."""

    strategy: MethodStrategy
    seen: Recorder
    grid: LocalGrid
    settings: Settings
    timeout: float = 600.0
    extra: dict[str, Any] = field(default_factory=dict)

    def start(self) -> Run:
        result = self.strategy.start(
            self.grid,
            to_record(initial_arrays(self.settings)),
            num_rounds=self.settings.rounds.total,
            timeout=self.timeout,
            **self.extra,
        )
        return Run(self.strategy, result, self.seen, self.grid, self.settings)


def prepare(
    changes: Mapping[str, Any] | None = None,
    *,
    count: int | None = None,
    order: np.random.Generator | None = None,
    tamper: Tamper | None = None,
    timeout: float = 600.0,
) -> Setup:
    """Set a run of our own app up: `TINY` with some settings changed."""
    config = {**TINY, **(changes or {})}
    settings = Settings.from_run_config(config)
    seen = Recorder()
    count = settings.data.synthetic_users if count is None else count
    grid = LocalGrid(app, nodes(count), config, order=order, tamper=tamper)
    return Setup(make_strategy(settings, seen), seen, grid, settings, timeout)


def run(changes: Mapping[str, Any] | None = None, **kwargs: Any) -> Run:
    """Run it to its end."""
    return prepare(changes, **kwargs).start()


def failed(request: Message, reply: Message, code: int = 472, why: str = "MemoryError") -> Message:
    """Put an error in the place of a reply."""
    error = Message(Error(code, why), reply_to=request)
    error.metadata.__dict__.update(reply.metadata.__dict__)
    return error


def lost(request: Message, reply: Message) -> None:
    """Let a reply get lost."""


def only(
    change: Tamper,
    *labels: str,
    action: str = "train",
    rounds: Container[int] = range(1, 1000),
) -> Tamper:
    """Change replies to one action: of some clients, or of all, in some rounds."""

    def tamper(request: Message, reply: Message) -> Message | None:
        header = reply.content.config_records["caafp"]
        ours = header["label"] in labels or not labels
        if ours and header["action"] == action and header["round"] in rounds:
            return change(request, reply)
        return reply

    return tamper


def bits_of(result: ClusteredResult) -> dict[int, tuple[bytes, bytes, bytes]]:
    """Mask, prunable arrays and other arrays of each cluster, as bytes: equal bits or not."""
    found = {}
    for number, cluster in result.report.clusters.items():
        assert cluster.mask_bits is not None
        prunable = result.clusters[number].mask
        parts = [
            b"".join(a.tobytes() for n, a in cluster.arrays.items() if (n in prunable) == wanted)
            for wanted in (True, False)
        ]
        found[number] = (cluster.mask_bits.tobytes(), parts[0], parts[1])
    return found


def members_of(result: ClusteredResult) -> dict[str, int]:
    """The cluster of each client."""
    return {client.label: client.cluster for client in result.report.clients}


def accuracies(report: RunReport | None) -> dict[str, tuple[float | None, ...]]:
    """Per client, everything that a run says of its models."""
    return {
        client.label: (
            client.cluster,
            client.cluster_accuracy,
            client.cluster_loss,
            client.personal_accuracy,
            client.personal_loss,
            client.personal_sparsity,
        )
        for client in report.clients
    }
