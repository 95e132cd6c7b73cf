"""Two things that later methods need, shown by toys: a query per level, and groups formed anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from caafp_app.clustering.stable import keep_numbers
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runner.model import SparseModel, combine
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client
from caafp_app.runner.runner import Answers, Runner
from caafp_app.strategies import CAAFP, Clustering, FedAvg, Method, Pruning
from caafp_app.strategies.caafp import CAAFPMethod
from caafp_app.strategies.grouping import regrouped
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.strategies.support import Recorder, nodes

CLIENTS = 5


def level_of(label: str) -> int:
    """Two clients of five are weak."""
    return int(label.rpartition("-")[2]) % 2


@dataclass(eq=False, kw_only=True)
class Levels(FedAvg):
    """Strong clients train all weights, weak ones every second of them."""

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        return _Levels(model)


class _Levels(Method):
    def ask(self, action: Action, step: RoundPlan, clients: Sequence[Client]) -> list[Query]:
        whole = self.models[-1]
        half = np.arange(whole.mask.bits.size) % 2 == 0
        models = [whole, whole.with_mask(Mask(whole.layout, half))]
        return [
            Query(action, model, tuple(c for c in clients if level_of(c.label) == level))
            for level, model in enumerate(models)
        ]

    def apply(self, step: RoundPlan, answers: Answers) -> bool:
        means = [mean for summed in answers.summed if (mean := summed.mean()) is not None]
        self.models[-1] = self.models[-1].moved(combine(means))
        return False


def flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(array) for array in arrays]).astype(float)


def test_levels_move_each_weight_by_the_mean_of_the_clients_that_have_it() -> None:
    result = Levels(
        observer=Recorder(), spare_below=0, personalise=False, fraction_evaluate=0.0
    ).start(LocalGrid(numpy_app.make_app(), nodes(CLIENTS)), numpy_app.initial(), num_rounds=1)
    initial = numpy_app.initial().to_numpy_ndarrays()
    start, weights = flat(initial), numpy_app.WEIGHTS
    total, having = np.zeros(start.size), np.zeros(start.size)
    for part in range(CLIENTS):
        mask = np.ones(start.size, dtype=bool)
        if part % 2:
            mask[:weights] = np.arange(weights) % 2 == 0
        given = np.split(np.where(mask, start, 0), np.cumsum([a.size for a in initial])[:-1])
        model = [g.reshape(a.shape).astype(np.float32) for g, a in zip(given, initial, strict=True)]
        after, examples = numpy_app.trained(part, model)
        total += examples * np.where(mask, flat(after) - flat(model), 0)
        having += examples * mask
    np.testing.assert_allclose(
        flat(result.arrays.to_numpy_ndarrays()), start + total / having, atol=1e-5
    )


@dataclass(eq=False, kw_only=True)
class Regrouping(CAAFP):
    """CA-AFP whose groups are formed anew before a round."""

    again: int = 4
    after: Mapping[str, int] = field(default_factory=dict)

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        return _Regrouping(self, model)


class _Regrouping(CAAFPMethod):
    args: Regrouping

    def before(self, runner: Runner, step: RoundPlan, newcomers: Sequence[Client]) -> None:
        super().before(runner, step, newcomers)
        if step.round == self.args.again:
            clients = runner.roster.clients
            before = {label: client.cluster for label, client in clients.items()}
            after = keep_numbers(before, self.args.after)
            self.models = regrouped(self.models, clients, after)
            self.evidence = {}
            runner.observer.on_clusters(after, "formed anew")


@pytest.fixture(scope="module")
def moved() -> tuple[Recorder, Any, dict[str, int]]:
    """Groups {0, 2, 4} and {1, 3} become {0, 2} and {1, 3, 4} before round 4."""
    seen = Recorder()
    after = {f"part-{part:04d}": int(part in (1, 3, 4)) for part in range(CLIENTS)}
    strategy = Regrouping(
        after={label: 1 - number for label, number in after.items()},  # numbers are kept anyway
        warmup_rounds=1,
        cluster_rounds=1,
        prune_rounds=5,
        clustering=Clustering(clusters=2),
        pruning=Pruning(sparsity=0.5, every=2),
        spare_below=0,
        observer=seen,
        fraction_evaluate=0.0,
    )
    grid = LocalGrid(numpy_app.make_app(), nodes(CLIENTS))
    return seen, strategy.start(grid, numpy_app.initial(), num_rounds=7), after


def test_groups_formed_anew_keep_their_numbers(moved: tuple[Recorder, Any, dict[str, int]]) -> None:
    seen, result, after = moved
    first = {label: int(int(label[-1]) % 2) for label in after}
    swapped = seen.labels["part-0000"] != first["part-0000"]
    expected = {label: 1 - number if swapped else number for label, number in after.items()}
    assert seen.labels == expected
    for number, cluster in result.clusters.items():
        assert set(cluster.members) == {k for k, v in expected.items() if v == number}


def test_a_run_prunes_to_its_sparsity_after_groups_were_formed_anew(
    moved: tuple[Recorder, Any, dict[str, int]],
) -> None:
    _, result, _ = moved
    for cluster in result.clusters.values():
        assert cluster.density == pytest.approx(0.5, abs=0.02)
    assert all(client.personal_sparsity is not None for client in result.report.clients)


def test_models_are_merged_by_the_examples_of_the_members_that_bring_them() -> None:
    layout = Layout.of({"w": np.zeros((1, 2), np.float32)})

    def model(*values: float) -> SparseModel:
        return SparseModel.dense(layout, layout.flatten({"w": np.array([values], np.float32)}))

    clients = {
        "a": Client("a", 1, examples=10, cluster=0),
        "b": Client("b", 2, examples=30, cluster=0),
        "c": Client("c", 3, examples=20, cluster=1),
    }
    found = regrouped({0: model(1, 2), 1: model(4, 8)}, clients, {"a": 0, "b": 1, "c": 1})
    np.testing.assert_allclose(found[0].flat.weights, [1, 2])
    np.testing.assert_allclose(found[1].flat.weights, [(30 * 1 + 20 * 4) / 50, (60 + 160) / 50])
    assert [client.cluster for client in clients.values()] == [0, 1, 1]
    # One that claims as many examples as it likes counts as the median client.
    clients["b"] = Client("b", 2, examples=10**9, cluster=0)
    found = regrouped(
        {0: model(1, 2), 1: model(4, 8)}, clients, {"a": 0, "b": 1, "c": 1}, robust=True
    )
    np.testing.assert_allclose(found[1].flat.weights, [(20 * 1 + 20 * 4) / 40, 5])
