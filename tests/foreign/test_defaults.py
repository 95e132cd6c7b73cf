"""`CAAFP()` in place of `FedAvg()`, nothing said: no harm to small models and short runs."""

import re
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable
from flwr.serverapp.strategy import FedAvg

from caafp_app import CAAFP, sparse_mod
from caafp_app.protocol.layout import Layout
from caafp_app.strategies import Clustering, Pruning
from tests.foreign.apps import App, Arrays, arrays_of, as_fedavg, grid_of, numpy_of, record_of
from tests.local_grid import LocalGrid


def sent(grid: LocalGrid) -> int:
    return sum(passage.nbytes for passage in grid.passages)


def run(strategy: CAAFP | FedAvg, initial: Arrays, rounds: int) -> tuple[Arrays, int]:
    grid = grid_of(App().make(*([sparse_mod] if isinstance(strategy, CAAFP) else [])))
    result = strategy.start(grid, record_of(initial), num_rounds=rounds)
    return numpy_of(result.arrays), sent(grid)


@pytest.mark.parametrize("shape", [(3, 4), (64, 10), (10, 99)])
@pytest.mark.parametrize("rounds", [3, 12])
def test_a_small_array_stays_dense(shape: tuple[int, int], rounds: int) -> None:
    initial = {"w": np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    arrays, _ = run(CAAFP(clustering=Clustering(clusters=1)), initial, rounds)
    assert np.count_nonzero(arrays["w"]) == arrays["w"].size
    theirs, _ = run(FedAvg(), initial, rounds)
    np.testing.assert_allclose(arrays["w"], theirs["w"], rtol=1e-6, atol=1e-6)


def forgets(message: Message, context: Context, call: ClientAppCallable) -> Message:
    context.state.clear()
    return call(message, context)


@pytest.mark.parametrize(
    ("mods", "kwargs", "most"),
    [
        ((sparse_mod,), {}, 0.75),
        ((sparse_mod,), {"fraction_evaluate": 0.5}, 0.9),
        ((sparse_mod,), {"fraction_evaluate": 0.0}, 1.05),
        ((forgets, sparse_mod), {}, 1.4),  # asked again in full, in the same exchange
    ],
    ids=["kept", "some keep it", "never evaluated", "lost"],
)
def test_a_model_that_was_evaluated_is_not_sent_again_to_be_trained(
    mods: tuple[Any, ...], kwargs: dict[str, Any], most: float
) -> None:
    initial = arrays_of(size=400)
    ours, theirs = grid_of(App().make(*mods)), grid_of(App().make())
    one = as_fedavg(**kwargs).start(ours, record_of(initial), num_rounds=5)
    two = FedAvg(**kwargs).start(theirs, record_of(initial), num_rounds=5)
    for name, array in numpy_of(two.arrays).items():
        np.testing.assert_allclose(numpy_of(one.arrays)[name], array, rtol=1e-5, atol=1e-5)
    assert sent(ours) <= most * sent(theirs)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_clients_that_are_alike_are_one_cluster(seed: int) -> None:
    """Each goes its own way at random, and none is like another."""
    initial = {"w": np.random.default_rng(seed).normal(size=(50, 40 + seed)).astype(np.float32)}
    result = CAAFP(seed=seed).start(
        grid_of(App(examples=[10] * 10).make(sparse_mod), 10), record_of(initial), num_rounds=12
    )
    assert len(result.clusters) == 1


def test_whoever_names_a_small_array_means_it() -> None:
    initial = {"w": np.ones((8, 8), np.float32), "v": np.ones((8, 8), np.float32)}
    assert Layout.of(initial, ["w"], spare_below=1000).weight_count == 64
    assert Layout.of(initial, spare_below=1000).weight_count == 0
    assert Layout.of(initial, spare_below=64).weight_count == 128


@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 9])
def test_a_short_run_sends_no_more_than_fedavg_and_prunes_little(rounds: int) -> None:
    initial = arrays_of(size=200)
    arrays, ours = run(CAAFP(), initial, rounds)
    _, theirs = run(FedAvg(), initial, rounds)
    # Less than three rounds prune nothing: what is left is who the clients are, and headers.
    assert ours <= theirs * (1.0 if rounds >= 3 else 1.05)
    pruned = (arrays["layer.weight"] == 0).mean()
    assert pruned == pytest.approx(0.0 if rounds < 3 else 0.015 * rounds, abs=0.01)


@pytest.mark.parametrize("rounds", [10, 20, 50, 200])
def test_pruning_starts_early_and_goes_in_small_steps(rounds: int) -> None:
    plan = CAAFP().plan(rounds)
    updates = [step for step in plan if step.mask_update]
    assert updates[0].round <= 0.3 * rounds
    assert len(updates) >= 5
    steps = np.diff([0.0, *(step.sparsity for step in updates)])
    assert steps.max() <= 0.3
    assert plan[-1].sparsity == pytest.approx(min(0.7, 0.015 * rounds))


def test_a_copied_strategy_still_knows_what_was_left_out() -> None:
    for rounds in (1, 9, 50):
        assert deepcopy(CAAFP()).plan(rounds) == CAAFP().plan(rounds)


def test_what_is_asked_for_is_done() -> None:
    plan = CAAFP(pruning=Pruning(sparsity=0.9)).plan(4)
    assert plan[-1].sparsity == 0.9
    plan = CAAFP(warmup_rounds=1, cluster_rounds=1, prune_rounds=2).plan(4)
    assert plan[-1].sparsity == 0.7


def test_the_log_ends_with_what_pruning_cost_and_saved(caplog: pytest.LogCaptureFixture) -> None:
    app = App(metrics=lambda part: {"eval_acc": 0.1 * part})
    CAAFP().start(grid_of(app.make(sparse_mod)), record_of(arrays_of(size=200)), num_rounds=3)
    told = caplog.text
    assert "accuracy when pruning began, after round 1: 0.25; after round 3: 0.25" in told
    assert re.search(r"FedAvg would have sent \S+ MB of dense models; this run sent \S+ MB", told)
