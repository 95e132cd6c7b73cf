"""A run that is cut in two ends like one that was not, bit for bit."""

import re
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from caafp_app.errors import RunError
from caafp_app.runs.checkpoint import Checkpoints, Saved
from caafp_app.strategies import CAAFP, Clustering, FedAvg, FedSNIP, Pruning
from caafp_app.strategies.strategy import MethodStrategy
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.strategies.support import (
    PowerCutError,
    Recorder,
    Snapshots,
    accuracies,
    bits_of,
    cut,
    members_of,
    nodes,
    prepare,
)
from tests.strategies.trial import Trial

ROUNDS = 8


TERMS: dict[str, Any] = {
    "warmup_rounds": 2,
    "cluster_rounds": 2,
    "prune_rounds": 4,
    "fraction_train": 0.7,
    "fraction_evaluate": 0.5,
    "average_last": 2,
    "spare_below": 0,
    "clustering": Clustering(2),
    "pruning": Pruning(sparsity=0.5, every=2, regrow=0.2),
    "seed": 3,
    "robust": True,
    "personalise": None,
}
"""CA-AFP with the numpy app: rounds 1-2 warm-up, 3-4 in clusters, 5-8 pruning."""


def numpy_run(
    kept: Checkpoints | None = None,
    saved: Saved | None = None,
    at: tuple[int, str] | None = None,
    count: int = 6,
) -> Trial:
    trial = Trial(configs=count, rounds=ROUNDS, checkpoints=kept, **TERMS)
    if at is not None:
        trial.seen.at[at] = cut
    return trial.start(resume=saved)


def grid_of(count: int, **more: Any) -> LocalGrid:
    return LocalGrid(numpy_app.make_app(), nodes(count), serialise=False, **more)


@pytest.fixture(scope="module")
def unbroken() -> Trial:
    return numpy_run()


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
    at: tuple[int, str], tmp_path: Path, unbroken: Trial
) -> None:
    with pytest.raises(PowerCutError):
        numpy_run(Checkpoints(tmp_path), at=at)
    saved = Checkpoints(tmp_path).load()
    assert saved.round == at[0] - 1
    again = numpy_run(Checkpoints(tmp_path), saved)
    assert bits_of(again.result) == bits_of(unbroken.result)
    report, whole = again.report, unbroken.report
    assert accuracies(report) == accuracies(whole)
    for kind in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
        assert dict(getattr(again.result, kind)) == dict(getattr(unbroken.result, kind))
    # Only what was lost was done again.
    assert min(r.round for r in again.seen.rounds) == at[0]
    assert report.ledger.formula_total == whole.ledger.formula_total
    phases = report.ledger.by_phase()
    for phase, traffic in whole.ledger.by_phase().items():
        # A client that had the mask before the cut does not hold it any more.
        assert phases[phase].up >= traffic.up, phase
    # A run that has ended leaves no checkpoints.
    assert not tmp_path.exists()


def test_the_end_of_a_resumed_run_tells_of_all_its_rounds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        lines = [line for line in caplog.messages if re.match("FedAvg would|.* when pruning", line)]
        caplog.clear()
        # Clients that held a mask before the cut are sent it again.
        return [line.partition("; this run sent")[0] for line in lines]

    numpy_run()
    whole = told()
    assert len(whole) == 2
    with pytest.raises(PowerCutError):
        numpy_run(Checkpoints(tmp_path), at=(7, "evaluate"))
    caplog.clear()
    numpy_run(Checkpoints(tmp_path), Checkpoints(tmp_path).load())
    assert told() == whole


@pytest.mark.parametrize(
    ("at", "placed", "after"),
    [((6, "prune"), (6, "cluster", 1), 6), ((9, "personalise"), (9, "cluster", 1), 9)],
    ids=["in-a-round", "after-the-last-one"],
)
def test_a_client_that_comes_only_after_the_cut_is_placed(
    at: tuple[int, str], placed: tuple[int, str, int], after: int, tmp_path: Path
) -> None:
    with pytest.raises(PowerCutError):
        numpy_run(Checkpoints(tmp_path), at=at)
    again = numpy_run(None, Checkpoints(tmp_path).load(), count=7)
    rounds = again.seen.rounds
    assert [(r.round, r.phase, r.asked) for r in rounds if r.phase == "cluster"] == [placed]
    assert min(r.round for r in rounds) == after
    found = members_of(again.result)
    assert len(found) == 7
    assert found["part-0006"] == found["part-0000"]  # of the same planted group


def test_told_to_end_saves_and_stops(tmp_path: Path) -> None:
    told: list[bool] = []
    kept, seen = Checkpoints(tmp_path, every=100), Recorder()
    seen.at[4, "cluster-warm-up"] = lambda: told.append(True)
    plumbing = {"observer": seen, "checkpoints": kept, "stop": lambda: bool(told)}
    strategy = CAAFP(**{**TERMS, "fraction_evaluate": 0.0, **plumbing})
    with pytest.raises(RunError, match="told to end after round 4 of 8"):
        strategy.start(grid_of(6), numpy_app.initial(), num_rounds=ROUNDS)
    saved = kept.load()
    assert saved.round == 4
    numpy_run(kept, saved)


@pytest.mark.parametrize("round_", [1, 3, 6])
def test_told_to_end_in_a_round_saves_the_state_before_it(
    round_: int, tmp_path: Path, unbroken: Trial
) -> None:
    told: list[bool] = []

    def notes(request: Message, reply: Message) -> Message:
        if request.content.config_records["caafp"]["round"] == round_:
            told.append(True)
        return reply

    kept = Checkpoints(tmp_path, every=100)
    strategy = CAAFP(**TERMS, checkpoints=kept, stop=lambda: bool(told))
    with pytest.raises(RunError, match=f"round {round_}, was going on"):
        strategy.start(grid_of(6, tamper=notes), numpy_app.initial(), num_rounds=ROUNDS)
    saved = kept.load()
    assert saved.round == round_ - 1
    assert bits_of(numpy_run(None, saved).result) == bits_of(unbroken.result)


def test_told_to_end_while_replies_are_waited_for_ends_at_once() -> None:
    grid = grid_of(
        4,
        tamper=lambda request, reply: (
            reply if request.content.config_records["caafp"]["action"] == "describe" else None
        ),
    )
    strategy = CAAFP(stop=lambda: len(grid.requests) > 5, fraction_evaluate=0.0, warmup_rounds=2)
    with pytest.raises(RunError, match="told to end while warm-up, round 1, was going on"):
        strategy.start(grid, numpy_app.initial(), num_rounds=ROUNDS, timeout=600.0)


@pytest.mark.parametrize("kind", [CAAFP, FedAvg, FedSNIP])
def test_two_starts_of_one_strategy_are_two_equal_runs(kind: type[MethodStrategy]) -> None:
    """It holds arguments alone: clusters, evidence, bounds and bytes are of one run."""
    terms = {name: value for name, value in TERMS.items() if name in signature(kind).parameters}
    seen = Recorder()
    strategy = kind(**terms, observer=seen)
    one, two = (
        strategy.start(grid_of(6), numpy_app.initial(), num_rounds=ROUNDS) for _ in range(2)
    )
    assert bits_of(one) == bits_of(two)
    first, second = one.report, two.report
    assert accuracies(first) == accuracies(second)
    assert first.ledger.formula_total == second.ledger.formula_total
    assert first.ledger.messages == second.ledger.messages
    assert one.train_metrics_clientapp == two.train_metrics_clientapp
    half = len(seen.rounds) // 2
    told = [(r.round, r.phase, r.asked, r.loss, r.density) for r in seen.rounds]
    assert told[:half] == told[half:]


BY_ROUNDS = {"clusters": "auto", "strategy-args": "grouping='rounds'", "synthetic-users": 12}
OTHERS: dict[str, dict[str, Any]] = {
    "snip": {"initial-sparsity": 0.3, "initial-mask": "snip"},
    "levels": {"levels": "1,0.5,0.25", "prune-every": 1},
    "groups-not-yet-formed": {**BY_ROUNDS, "warmup-rounds": 4},
    "groups-by-rounds": {**BY_ROUNDS, "warmup-rounds": 2},
    "score-auto": {"score": "auto", "synthetic-windows": 40, "prune-every": 1},
    "sparsity-auto": {"sparsity": "auto", "prune-rounds": 6},
    "sparsity-entropy": {"sparsity": "entropy"},
    "fedavg": {"strategy": "fedavg"},
    "fedsnip": {"strategy": "fedsnip"},
    "efficientfl": {"strategy": "efficientfl"},
    "fedchar": {"strategy": "fedchar"},
    "clusterfl": {"strategy": "clusterfl", "strategy-args": "every=2"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_strategy_resumes(name: str, tmp_path: Path) -> None:
    changes = {"warmup-rounds": 1, "prune-rounds": 3, **OTHERS[name]}

    def setup(saved: Saved | None) -> Any:
        made = prepare(changes)
        made.strategy.checkpoints = Checkpoints(tmp_path)
        made.extra["resume"] = saved
        return made

    whole = prepare(changes).start()
    first = setup(None)
    for phase in ("train", "warm-up", "cluster-warm-up", "prune"):
        first.seen.at[4, phase] = cut
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
    assert members_of(done.result) == members_of(whole.result)
    if name == "clusterfl":
        # What a client holds and what the server adds up differ in the last bit of a float32.
        for number, cluster in whole.result.clusters.items():
            for key, array in cluster.arrays.items():
                again = done.result.clusters[number].arrays[key].numpy()
                np.testing.assert_allclose(again, array.numpy(), atol=1e-3)
        return
    assert bits_of(done.result) == bits_of(whole.result)
    assert accuracies(done.seen.report) == accuracies(whole.seen.report)


@pytest.mark.parametrize(
    ("strategy", "rounds", "found"),
    [
        (FedAvg(), ROUNDS, "strategy: expected that of this run, found 'CAAFP'"),
        (CAAFP(spare_below=0), 9, "plan: expected that of this run"),
        (CAAFP(spare_first=True), ROUNDS, "layout: expected that of this run"),
    ],
    ids=["strategy", "plan", "model"],
)
def test_the_state_of_another_strategy_plan_or_model_is_refused(
    strategy: MethodStrategy, rounds: int, found: str
) -> None:
    kept = Snapshots()
    numpy_run(kept)
    with pytest.raises(RunError, match=found):
        strategy.start(
            grid_of(6), numpy_app.initial(), num_rounds=rounds, resume=Saved(4, kept.states[4])
        )
