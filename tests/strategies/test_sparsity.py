"""``sparsity="auto"`` and ``"entropy"``: each cluster ends as sparse as its clients allow."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from caafp_app import CAAFP
from caafp_app.errors import SettingsError
from caafp_app.pruning.tuning import entropy_sparsity
from caafp_app.strategies import Clustering, Pruning
from tests.strategies import numpy_app
from tests.strategies.numpy_app import CLASSES, FEATURES, GROUPS, TEST
from tests.strategies.support import Recorder, nodes, run
from tests.strategies.trial import Trial


def unequal(seed: int, part: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return one client's data: what the first group is asked depends on two features of twelve."""
    truth = np.random.default_rng([seed, part % GROUPS]).normal(size=(FEATURES, CLASSES))
    if part % GROUPS == 0:
        truth[2:] = 0
    rng = np.random.default_rng([seed, 1, part])
    x = rng.normal(size=(200 + TEST, FEATURES)).astype(np.float32)
    return x, (x @ truth).argmax(1)


def held(seed: int, *, evaluates: bool = True, configs: Any = 6, **changes: Any) -> Recorder:
    """Hold a run of somebody else's project with two groups of unequal difficulty."""
    return (
        Trial(
            app=numpy_app.make_app(data=partial(unequal, seed), evaluates=evaluates),
            rounds=(3, 3, 18),
            configs=configs,
            seed=seed,
            fraction_evaluate=1.0,
            clustering=Clustering(2),
            pruning=Pruning(**{"sparsity": "auto", "tolerance": 2.0, "every": 3, **changes}),
        )
        .start()
        .seen
    )


def path(seen: Recorder, cluster: int) -> list[float]:
    """The sparsity of a cluster after each round, each value once in a row."""
    found = [1 - r.density[cluster] for r in seen.rounds if cluster in r.density]
    return [one for i, one in enumerate(found) if i == 0 or one != found[i - 1]]


@pytest.mark.parametrize("seed", range(3))
def test_a_cluster_with_an_easier_task_ends_sparser(seed: int) -> None:
    seen = held(seed)
    easy, hard = seen.labels["part-0000"], seen.labels["part-0001"]
    assert path(seen, easy)[-1] > path(seen, hard)[-1] + 0.1
    assert path(seen, easy)[-1] > 0.6
    for cluster in (easy, hard):
        moves = np.sign(np.diff(path(seen, cluster)))
        assert np.count_nonzero(np.diff(moves) < 0) <= 2  # grows after it shrank
        told = [r.watched[cluster] for r in seen.rounds if cluster in r.watched]
        assert told[-1] >= max(told) - 0.1
    assert {r.phase for r in seen.rounds if r.watched} == {"evaluate"}


def test_a_named_figure_is_watched_and_without_any_nothing_is_pruned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = held(0, watch="eval_loss", tolerance=10.0)
    assert path(seen, 0)[-1] != path(seen, 1)[-1]
    losses = [r.loss for r in seen.rounds if r.phase == "evaluate" and r.watched]
    assert losses[0] is not None
    assert seen.round(1, "evaluate").watched == pytest.approx({-1: losses[0]})
    seen = held(0, evaluates=False)
    assert path(seen, 0) == path(seen, 1) == [0.0]
    assert "no figure to tune its sparsity by" in caplog.text


def test_devices_of_several_levels_are_each_compared_with_themselves() -> None:
    places = [{**place, "level": (1.0, 0.5)[i // 4]} for i, place in enumerate(nodes(6))]
    seen = held(0, configs=places, levels="1,0.5")
    easy, hard = seen.labels["part-0000"], seen.labels["part-0001"]
    assert path(seen, easy)[0] == path(seen, hard)[0] == 0.0  # of the whole model, not of a half
    assert path(seen, easy)[-1] > path(seen, hard)[-1]


def test_our_own_app_is_scored_on_what_it_holds_out_of_training() -> None:
    ended = run({"sparsity": "auto", "prune-rounds": 8, "tolerance": 100.0, "local-epochs": 2})
    trained = [r for r in ended.seen.rounds if r.phase not in ("cluster", "personalise")]
    assert all(r.watched for r in trained)
    assert ended.seen.plan[-1].sparsity == pytest.approx(0.875)
    # Whatever it costs. Masks change in every second round, and a cut model is heard in the third.
    assert max(1 - d for d in trained[-1].density.values()) == pytest.approx(0.75, abs=0.01)


def test_entropy_goes_by_what_clients_say_of_their_labels() -> None:
    ended = run({"sparsity": "entropy"})
    said = ended.seen.round(8).watched
    assert all(0.5 < entropy <= 1 for entropy in said.values())
    counts = np.bincount(list(ended.seen.labels.values()))
    for number, density in ended.seen.round(8).density.items():
        wanted = entropy_sparsity(said[number], int(counts[number]))
        assert 1 - density == pytest.approx(wanted, abs=0.02)


def test_words_that_are_no_rule_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"expected a number, 'auto' or 'entropy', found 'aut'"):
        Pruning(sparsity="aut")
    with pytest.raises(SettingsError, match=r"whole filters do not"):
        Pruning(sparsity="auto", granularity="filter")
    with pytest.raises(SettingsError, match=r"one_exchange=True"):
        CAAFP(pruning=Pruning(sparsity="entropy"))
    with pytest.raises(SettingsError, match=r"a rule of strategy 'caafp'"):
        run({"sparsity": "auto", "strategy": "fedsnip"})
