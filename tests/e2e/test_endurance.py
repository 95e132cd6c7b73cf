"""Two hundred rounds in which three clients of ten fail, dawdle or lie, other ones each time.

Time is that of a clock of the test's own: a device trains for a time drawn from a log-normal
distribution (median 4 s, sigma 0.5), a slow one answers just inside the deadline of 600 s.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from caafp_app import CAAFP
from caafp_app.runner import runner
from caafp_app.runner.exchange import Exchange
from caafp_app.strategies import Clustering, Pruning
from tests.local_grid import Clock, LocalGrid
from tests.protocol.support import repacked
from tests.strategies import numpy_app
from tests.strategies.support import Recorder, failed, nodes

pytestmark = pytest.mark.e2e

CLIENTS, LIARS, ROUNDS, DEADLINE = 10, 3, 200, 600.0
FAULTS = ("fails", "lost", "slow", "reversed", "nan", "vast", "metrics")


def drawn(round_: int) -> dict[int, str]:
    """Who is at fault in a round, and how."""
    rng = np.random.default_rng([4, round_])
    who = rng.choice(CLIENTS, LIARS, replace=False)
    return {int(part): str(rng.choice(FAULTS)) for part in who}


class Fleet(LocalGrid):
    """Nodes that take their time."""

    def __init__(self, clock: Clock, *, faulty: bool) -> None:
        super().__init__(numpy_app.make_app(), list(nodes(CLIENTS)), serialise=False)
        self.clock, self.faulty = clock, faulty
        self.tamper = self.spoil
        self.ready: dict[str, float] = {}

    def fault(self, request: Message) -> tuple[int, int, str]:
        header = request.content.config_records["caafp"]
        part = int(self.contexts[request.metadata.dst_node_id].node_config["partition-id"])
        round_ = int(header["round"])  # type: ignore[call-overload]
        trains = self.faulty and header["action"] == "train"
        return part, round_, drawn(round_).get(part, "") if trains else ""

    def spoil(self, request: Message, reply: Message) -> Message | None:
        part, round_, fault = self.fault(request)
        seconds = float(np.random.default_rng([5, part, round_]).lognormal(np.log(4.0), 0.5))
        self.ready[request.metadata.message_id] = self.clock.now + (
            DEADLINE - 1 if fault == "slow" else seconds
        )
        if fault == "fails":
            return failed(request, reply)
        if fault == "lost":
            return None
        if fault in ("reversed", "nan", "vast"):
            by = np.float32({"reversed": -9.0, "nan": np.nan, "vast": 1e12}[fault])
            repacked(
                reply.content,
                lambda arrays: arrays.update({k: arrays[k] * by for k in ("values", "rest")}),
            )
        if fault in ("reversed", "metrics"):
            for metrics in reply.content.metric_records.values():
                metrics.update({name: 10**9 for name in metrics})
        return reply

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return super().pull_messages([i for i in message_ids if self.ready[i] <= self.clock.now])


@dataclass
class Ended:
    seconds: float
    seen: Recorder
    result: Any


def hold(monkeypatch: pytest.MonkeyPatch, *, faulty: bool) -> Ended:
    clock, seen = Clock(), Recorder()
    timed = partial(Exchange, clock=clock, sleep=clock.sleep)
    monkeypatch.setattr(runner, "Exchange", timed)
    strategy = CAAFP(
        warmup_rounds=20,
        cluster_rounds=20,
        prune_rounds=160,
        fraction_evaluate=0.0,
        personalise=False,
        spare_below=0,
        clustering=Clustering(2),
        pruning=Pruning(sparsity=0.5, every=10),
        min_replies=5,
        rest_after=0,
        robust=True,
        seed=3,
        observer=seen,
    )
    grid = Fleet(clock, faulty=faulty)
    result = strategy.start(grid, numpy_app.initial(), num_rounds=ROUNDS, timeout=DEADLINE)
    return Ended(clock.now, seen, result)


def accuracy(result: Any) -> float:
    """Mean over clients of their cluster's model on their own data."""
    found = []
    for cluster in result.clusters.values():
        model = cluster.arrays.to_numpy_ndarrays()
        for label in cluster.members:
            x, y = numpy_app.windows(int(label[-4:]))
            found.append(numpy_app.slopes(model, x, y)[2])
    return float(np.mean(found))


def test_two_hundred_bad_rounds_end_in_time_with_memory_flat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = hold(monkeypatch, faulty=False)
    bad = hold(monkeypatch, faulty=True)
    rounds = [r for r in bad.seen.rounds if r.phase != "cluster"]
    assert len(rounds) == ROUNDS
    assert all(r.used for r in rounds)
    print(f"{bad.seconds / whole.seconds:.2f} times as long")
    print(f"honest cut: {sum(len(r.missing) for r in whole.seen.rounds)} of {CLIENTS * ROUNDS}")
    assert bad.seconds <= 1.5 * whole.seconds
    memory = [r.server_memory_mb or 0.0 for r in rounds]
    print(f"memory after 20 and 200 rounds: {memory[19]:.0f}, {memory[-1]:.0f} MB")
    assert memory[-1] <= memory[19] + 20
    ends = [accuracy(one.result) for one in (whole, bad)]
    print(f"accuracy of the clusters' models: {ends[0]:.3f}, {ends[1]:.3f}")
    assert ends[1] >= 0.8  # chance is 0.33; up to three of a cluster's five lie at once
