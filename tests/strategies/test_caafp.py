"""What CA-AFP decides: rounds, masks, counts, weights of the mean."""

from functools import partial

import numpy as np
import pytest
from flwr.app import ArrayRecord
from hypothesis import given
from hypothesis import strategies as st

from caafp_app import CAAFP
from caafp_app.errors import SettingsError
from caafp_app.strategies import Clustering, Pruning
from caafp_app.strategies.rounds import divide_rounds
from tests.strategies import numpy_app
from tests.strategies.support import run
from tests.strategies.trial import Trial

SHORT = {"prune-rounds": 2, "cluster-rounds": 0, "prune-every": 1}

Rounds = st.one_of(st.none(), st.integers(0, 20))


@given(total=st.integers(1, 60), warmup=Rounds, within=Rounds, prune=Rounds)
def test_rounds_are_divided_without_rest_and_as_given(
    total: int, warmup: int | None, within: int | None, prune: int | None
) -> None:
    given_ = (warmup, within, prune)
    known = sum(part or 0 for part in given_)
    possible = known <= total if None in given_ else known == total
    if not possible:
        with pytest.raises(SettingsError, match=r"rounds"):
            divide_rounds(total, *given_)
        return
    parts = divide_rounds(total, *given_)
    assert sum(parts) == total
    assert min(parts) >= 0
    for part, asked in zip(parts, given_, strict=True):
        assert asked is None or part == asked


def test_rounds_left_open_are_the_papers_shares() -> None:
    assert divide_rounds(50, None, None, None) == (15, 15, 20)
    assert divide_rounds(50, 10, None, None) == (10, 17, 23)
    assert divide_rounds(3, None, None, None) == (1, 1, 1)
    with pytest.raises(
        SettingsError, match=r"expected 10 together \(num_rounds\), found 1 \+ 2 \+ 3"
    ):
        divide_rounds(10, 1, 2, 3)


def test_too_few_rounds_to_prune_in_are_refused_by_the_name_that_the_caller_knows() -> None:
    for few in (1, 2):
        assert not any(step.mask_update for step in CAAFP().plan(few))
        assert len(CAAFP(pruning=Pruning(sparsity=0.0)).plan(few)) == few
    with pytest.raises(SettingsError, match=r"num_rounds: .* found 6, divided into 6 \+ 0 \+ 0"):
        CAAFP(warmup_rounds=6).plan(6)
    assert any(step.mask_update for step in CAAFP().plan(3))
    # Who says that there is no round of pruning means it.
    chosen = CAAFP(warmup_rounds=1, cluster_rounds=1, prune_rounds=0).plan(2)
    assert not any(step.mask_update for step in chosen)


clustered = partial(Trial, rounds=(1, 1, 4), configs=4, clustering=Clustering(2))
"""The numpy app has two prunable layers of 36 weights and a bias of 3."""


def skewed() -> ArrayRecord:
    """The first layer's weights are ten times those of the second."""
    arrays = numpy_app.initial().to_numpy_ndarrays()
    return ArrayRecord([arrays[0] * 20, arrays[1] * 0.1, arrays[2]])


def test_allocation_says_which_layers_are_pruned() -> None:
    uniform = clustered(pruning=Pruning(sparsity=0.75, every=2)).start(skewed())
    assert uniform.active() == [[9, 9], [9, 9]]
    whole = clustered(pruning=Pruning(sparsity=0.75, every=2, allocation="global")).start(skewed())
    for counts in whole.active():
        assert sum(counts) == 18
    assert whole.active() != uniform.active()


@pytest.mark.parametrize("kind", ["magnitude", "random"])
def test_a_run_may_be_sparse_from_the_start(kind: str) -> None:
    pruning = Pruning(sparsity=0.5, initial_sparsity=0.5, initial_mask=kind, every=1, regrow=0.2)
    masks: list[np.ndarray] = []
    for seed in (1, 1, 2):
        trial = clustered(pruning=pruning, seed=seed).start()
        packed = trial.kept.models(1)[-1]["mask"]
        masks.append(np.unpackbits(packed, count=72, bitorder="little").astype(bool))
        densities = {d for r in trial.seen.rounds for d in r.density.values()}
        assert densities == {0.5}
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] == masks[2]).all() == (kind == "magnitude")
    weights = numpy_app.initial().to_numpy_ndarrays()
    sizes = np.abs(np.concatenate([a.ravel() for a in weights[:2]]))
    for part in (slice(0, 36), slice(36, 72)):
        assert masks[0][part].sum() == 18
        largest = set(np.argsort(-sizes[part])[:18])
        assert (set(np.flatnonzero(masks[0][part])) == largest) == (kind == "magnitude")


def test_one_cluster_costs_no_exchange_of_its_own() -> None:
    for clusters, trainings in ((1, 6), (2, 7)):
        trial = clustered(clustering=Clustering(clusters)).start()
        assert len([r for r in trial.seen.rounds if r.phase == "cluster"]) == trainings - 6
        assert [len(trial.asked(f"client-{k:04d}")) for k in range(4)] == [trainings] * 4
        assert sum(len(c.members) for c in trial.result.clusters.values()) == 4


def test_snip_asks_clients_which_initial_weights_matter() -> None:
    done = run({"initial-sparsity": 0.6, "sparsity": 0.6, "initial-mask": "snip"} | SHORT)
    exchanges = list(done.asked())
    assert exchanges[0] == (0, "saliency")
    assert len(done.asked()[0, "saliency"]) == 4
    whole = 4 * sum(array.numpy().size for array in done.result.arrays.values())
    down = [p for p in done.grid.passages if p.direction == "down" and "values" in p.arrays]
    assert all((p.arrays["values"] < 0.45 * whole) == (p.header["round"] > 0) for p in down)
    for cluster in done.result.clusters.values():
        assert cluster.density == pytest.approx(0.4, abs=1e-3)


def test_more_clusters_than_clients_are_refused_before_anybody_trains() -> None:
    trial = clustered(pruning=Pruning(), clustering=Clustering(5))
    with pytest.raises(SettingsError, match=r"expected at most the 4 clients .* found 5"):
        trial.start()
    actions = {m.content.config_records["caafp"]["action"] for m in trial.grid.requests}
    assert actions == {"describe"}
