"""A run that is cut in two ends like one that was not, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict

from caafp_app import CAAFP
from caafp_app.errors import RunError
from caafp_app.runs.checkpoint import Checkpoints, Saved
from caafp_app.strategies import Clustering, Pruning
from caafp_app.strategies.fedavg import FedAvg
from caafp_app.strategies.strategy import MethodStrategy
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.strategies.support import Recorder, Setup, accuracies, bits_of, nodes, prepare

ROUNDS = 8


class PowerCutError(Exception):
    """The server is gone."""


def cut() -> None:
    raise PowerCutError


def numpy_run(
    folder: Path | None,
    saved: Saved | None = None,
    at: tuple[int, str] | None = None,
    count: int = 6,
    **more: Any,
) -> tuple[CAAFP, Recorder, Any]:
    """A run of CA-AFP with the numpy app: rounds 1-2 warm-up, 3-4 in clusters, 5-8 pruning."""
    seen = Recorder()
    strategy = CAAFP(
        warmup_rounds=2,
        cluster_rounds=2,
        prune_rounds=4,
        fraction_train=0.7,
        fraction_evaluate=0.5,
        average_last=2,
        clustering=Clustering(2),
        pruning=Pruning(sparsity=0.5, every=2, regrow=0.2),
        seed=3,
        observer=seen,
        checkpoints=None if folder is None else Checkpoints(folder),
        **more,
    )
    if at is not None:
        seen.at[at] = cut
    if saved is not None:
        strategy.resume(saved)
    grid = LocalGrid(numpy_app.make_app(), nodes(count), serialise=False)
    result = strategy.start(grid, numpy_app.initial(), num_rounds=ROUNDS, timeout=5.0)
    return strategy, seen, result


@pytest.fixture(scope="module")
def unbroken() -> tuple[CAAFP, Recorder, Any]:
    return numpy_run(None)


def members(strategy: MethodStrategy) -> dict[str, int]:
    return {label: client.cluster for label, client in strategy.roster.clients.items()}


CUTS = [
    *((round_, phase) for round_, phase in enumerate(["warm-up"] * 2, 1)),
    (3, "cluster"),
    (3, "cluster-warm-up"),
    (4, "cluster-warm-up"),
    *((round_, "prune") for round_ in range(5, 9)),
    (7, "evaluate"),
    (9, "personalise"),
]
"""The exchanges that the power is cut in: every phase boundary, and the middles."""


@pytest.mark.parametrize("at", CUTS, ids=lambda at: f"{at[1]}-{at[0]}")
def test_a_run_cut_anywhere_ends_like_an_unbroken_one(
    at: tuple[int, str], tmp_path: Path, unbroken: tuple[CAAFP, Recorder, Any]
) -> None:
    with pytest.raises(PowerCutError):
        numpy_run(tmp_path, at=at)
    saved = Checkpoints(tmp_path).load()
    assert saved.round == at[0] - 1
    strategy, seen, result = numpy_run(tmp_path, saved)
    whole, first, expected = unbroken
    assert bits_of(strategy) == bits_of(whole)
    assert members(strategy) == members(whole)
    assert accuracies(seen.report) == accuracies(first.report)
    for kind in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
        assert dict(getattr(result, kind)) == dict(getattr(expected, kind))
    # Only what was lost was done again.
    assert min(r.round for r in seen.rounds) == at[0]
    formula = strategy.ledger.formula_total
    assert formula == whole.ledger.formula_total
    phases = strategy.ledger.by_phase()
    for phase, traffic in whole.ledger.by_phase().items():
        # A client that had the mask before the cut does not hold it any more.
        assert phases[phase].up >= traffic.up, phase
    # A run that has ended leaves no checkpoints.
    assert not tmp_path.exists()


def test_twice_cut_and_saved_every_third_round(
    tmp_path: Path, unbroken: tuple[CAAFP, Recorder, Any]
) -> None:
    def part(saved: Saved | None, at: tuple[int, str] | None) -> CAAFP:
        seen = Recorder()
        if at is not None:
            seen.at[at] = cut
        strategy = CAAFP(
            warmup_rounds=2,
            cluster_rounds=2,
            prune_rounds=4,
            fraction_train=0.7,
            fraction_evaluate=0.5,
            average_last=2,
            clustering=Clustering(2),
            pruning=Pruning(sparsity=0.5, every=2, regrow=0.2),
            seed=3,
            observer=seen,
            checkpoints=Checkpoints(tmp_path, every=3, keep=1),
        )
        if saved is not None:
            strategy.resume(saved)
        grid = LocalGrid(numpy_app.make_app(), nodes(6), serialise=False)
        strategy.start(grid, numpy_app.initial(), num_rounds=ROUNDS, timeout=5.0)
        return strategy

    rounds = []
    for at in ((5, "prune"), (8, "prune")):
        with pytest.raises(PowerCutError):
            part(Checkpoints(tmp_path).load() if rounds else None, at)
        rounds.append(Checkpoints(tmp_path).load().round)
        assert len(list(tmp_path.iterdir())) == 1
    assert rounds == [3, 6]
    last = part(Checkpoints(tmp_path).load(), None)
    assert bits_of(last) == bits_of(unbroken[0])


def test_a_client_that_comes_only_after_the_cut_is_placed(tmp_path: Path) -> None:
    with pytest.raises(PowerCutError):
        numpy_run(tmp_path, at=(6, "prune"))
    seen = Recorder()
    strategy = CAAFP(
        warmup_rounds=2,
        cluster_rounds=2,
        prune_rounds=4,
        fraction_evaluate=0.0,
        personalise=False,
        average_last=2,
        clustering=Clustering(2),
        pruning=Pruning(sparsity=0.5, every=2, regrow=0.2),
        seed=3,
        observer=seen,
    )
    strategy.resume(Checkpoints(tmp_path).load())
    grid = LocalGrid(numpy_app.make_app(), nodes(7), serialise=False)
    strategy.start(grid, numpy_app.initial(), num_rounds=ROUNDS, timeout=5.0)
    (placed,) = (r for r in seen.rounds if r.phase == "cluster")
    assert (placed.round, placed.asked, placed.answered) == (6, 1, 1)
    assert strategy.roster.clients["part-0006"].cluster in (0, 1)


def test_a_client_that_comes_only_after_the_last_round_is_placed(tmp_path: Path) -> None:
    with pytest.raises(PowerCutError):
        numpy_run(tmp_path, at=(9, "personalise"))
    strategy, seen, _ = numpy_run(tmp_path, Checkpoints(tmp_path).load(), count=7)
    assert [(r.round, r.phase, r.asked) for r in seen.rounds if r.phase != "evaluate"] == [
        (9, "cluster", 1),
        (9, "personalise", 7),
        (9, "evaluate-personal", 7),
    ]
    mate = strategy.roster.clients["part-0000"].cluster
    assert strategy.roster.clients["part-0006"].cluster == mate
    assert seen.report is not None
    assert len(seen.report.clients) == 7


def test_told_to_end_saves_and_stops(tmp_path: Path) -> None:
    told: list[bool] = []
    seen = Recorder()
    seen.at[4, "cluster-warm-up"] = lambda: told.append(True)

    def start(saved: Saved | None, stop: Callable[[], bool]) -> CAAFP:
        strategy = CAAFP(
            fraction_evaluate=0.0,
            personalise=False,
            clustering=Clustering(2),
            observer=seen,
            checkpoints=Checkpoints(tmp_path, every=100),
            stop=stop,
        )
        if saved is not None:
            strategy.resume(saved)
        grid = LocalGrid(numpy_app.make_app(), nodes(6), serialise=False)
        strategy.start(grid, numpy_app.initial(), num_rounds=ROUNDS, timeout=5.0)
        return strategy

    with pytest.raises(RunError, match="told to end after round 4 of 8"):
        start(None, lambda: bool(told))
    saved = Checkpoints(tmp_path).load()
    assert saved.round == 4
    start(saved, lambda: False)


def test_told_to_end_while_replies_are_waited_for_ends_at_once() -> None:
    strategy = CAAFP(stop=lambda: len(grid.requests) > 5, fraction_evaluate=0.0)
    grid = LocalGrid(
        numpy_app.make_app(),
        nodes(4),
        serialise=False,
        tamper=lambda request, reply: (
            reply if request.content.config_records["caafp"]["action"] == "describe" else None
        ),
    )
    with pytest.raises(RunError, match="told to end while warm-up, round 1, was going on"):
        strategy.start(grid, numpy_app.initial(), num_rounds=ROUNDS, timeout=600.0)


OTHERS: dict[str, dict[str, Any]] = {
    "caafp": {"initial-sparsity": 0.3, "initial-mask": "snip"},
    "fedavg": {},
    "fedsnip": {},
    "efficientfl": {},
    "fedchar": {},
    "clusterfl": {"strategy-args": "every=2"},
}


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_strategy_resumes(name: str, tmp_path: Path) -> None:
    changes = {"strategy": name, "warmup-rounds": 1, "prune-rounds": 3, **OTHERS[name]}

    def setup(saved: Saved | None) -> Setup:
        made = prepare(changes)
        made.strategy.checkpoints = Checkpoints(tmp_path)
        if saved is not None:
            made.strategy.resume(saved)
        return made

    whole = prepare(changes).start()
    first = setup(None)
    for phase in ("train", "prune"):
        first.seen.at[4, phase] = cut
    first.seen.at[4, "cluster-warm-up"] = cut
    held: dict[str, RecordDict] = {}

    def look() -> None:
        for context in first.grid.contexts.values():
            held[str(context.node_config["partition-id"])] = RecordDict(dict(context.state))

    first.seen.at[3, "cluster-warm-up"] = look
    with pytest.raises(PowerCutError):
        first.start()
    saved = Checkpoints(tmp_path).load()
    assert saved.round == 3
    second = setup(saved)
    if name == "fedchar":  # whose second models live on the clients, and not in the checkpoint
        for context in second.grid.contexts.values():
            context.state = held[str(context.node_config["partition-id"])]
    done = second.start()
    assert members(done.strategy) == members(whole.strategy)
    if name == "clusterfl":
        # What a client holds and what the server adds up differ in the last bit of a float32.
        for label, client in whole.strategy.roster.clients.items():
            one = whole.strategy.model_of(client).model.weights
            two = done.strategy.model_of(done.strategy.roster.clients[label]).model.weights
            np.testing.assert_allclose(two, one, atol=1e-3)
        return
    assert bits_of(done.strategy) == bits_of(whole.strategy)
    assert accuracies(done.seen.report) == accuracies(whole.seen.report)


def test_the_state_of_another_strategy_plan_or_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PowerCutError):
        numpy_run(tmp_path, at=(4, "cluster-warm-up"))
    saved = Checkpoints(tmp_path).load()

    def start(strategy: MethodStrategy, rounds: int = ROUNDS) -> None:
        strategy.resume(saved)
        grid = LocalGrid(numpy_app.make_app(), nodes(6), serialise=False)
        strategy.start(grid, numpy_app.initial(), num_rounds=rounds, timeout=5.0)

    with pytest.raises(RunError, match="strategy: expected that of this run, found 'CAAFP'"):
        start(FedAvg())
    with pytest.raises(RunError, match="plan: expected that of this run"):
        start(CAAFP(), rounds=9)
    with pytest.raises(RunError, match="layout: expected that of this run"):
        start(CAAFP(spare_first=True))
