"""The plug-in: a project written for FedAvg, with `CAAFP(...)` and `sparse_mod` in it."""

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, MetricRecord
from numpy.typing import NDArray

from caafp_app.strategies import Clustering, Pruning
from tests.strategies import numpy_app
from tests.strategies.numpy_app import GROUPS, Seen
from tests.strategies.trial import Trial

CLIENTS, ROUNDS = 6, 8


def dense(record: ArrayRecord) -> list[NDArray[Any]]:
    return record.to_numpy_ndarrays()


class Finished(Trial):
    """One run of the plug-in, seen from all sides."""

    def __init__(self, **kwargs: Any) -> None:
        self.client, self.means = Seen(), dict[int, list[NDArray[Any]]]()
        super().__init__(
            app=numpy_app.make_app(self.client),
            rounds=(2, 2, 4),
            configs=CLIENTS,
            seed=3,
            clustering=Clustering(2),
            pruning=Pruning(sparsity=0.5, every=2, regrow=0.1),
            **{"personalise": None, **kwargs},
        )
        self.start(evaluate_fn=self.evaluate)

    def evaluate(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        self.means[server_round] = dense(arrays)
        return MetricRecord({"round": server_round}) if server_round else None


@pytest.fixture(scope="module")
def finished() -> Finished:
    return Finished(fraction_train=0.5, fraction_evaluate=0.34, min_evaluate_nodes=1)


def test_clusters_are_the_planted_groups_and_the_result_tells_them(finished: Finished) -> None:
    clusters = finished.result.clusters
    members = sorted(cluster.members for cluster in clusters.values())
    groups = [
        tuple(f"part-{k:04d}" for k in range(CLIENTS) if k % GROUPS == g) for g in range(GROUPS)
    ]
    assert members == groups
    for cluster in clusters.values():
        assert cluster.density == pytest.approx(0.5)
        assert set(cluster.mask) == {"0", "1"}
        for name, mask in cluster.mask.items():
            values = cluster.arrays[name].numpy()
            assert values.shape == mask.shape
            assert mask.sum() == mask.size // 2
            assert not values[~mask].any()
            assert values[mask].all()


def test_result_holds_the_example_weighted_mean_and_evaluate_fn_got_it(finished: Finished) -> None:
    result = finished.result
    totals = {
        number: sum(40 + 3 * int(label[-4:]) for label in cluster.members)
        for number, cluster in result.clusters.items()
    }
    assert sum(totals.values()) == sum(40 + 3 * k for k in range(CLIENTS))
    for k, mean in enumerate(dense(result.arrays)):
        parts = [totals[n] * dense(c.arrays)[k] for n, c in result.clusters.items()]
        np.testing.assert_allclose(mean, sum(parts) / sum(totals.values()), rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(mean, finished.means[ROUNDS][k])
    assert list(finished.means) == list(range(ROUNDS + 1))
    for given, sent in zip(finished.means[0], dense(numpy_app.initial()), strict=True):
        np.testing.assert_array_equal(given, sent)
    # None at round 0 is not kept, as with FedAvg.
    expected = {k: MetricRecord({"round": k}) for k in range(1, ROUNDS + 1)}
    assert result.evaluate_metrics_serverapp == expected


def test_every_client_ends_with_a_personal_model_that_is_better(finished: Finished) -> None:
    report = finished.seen.report
    assert len(report.clients) == CLIENTS
    personal = [client.personal_accuracy for client in report.clients]
    cluster = [client.cluster_accuracy for client in report.clients]
    assert np.mean(personal) > np.mean(cluster)
    assert np.mean(personal) > 0.7
    for client in report.clients:
        assert client.personal_sparsity == pytest.approx(0.5)
        assert client.test_examples == numpy_app.TEST + 1


def test_what_was_scored_last_is_the_kept_model_inside_its_mask(finished: Finished) -> None:
    last = finished.client[-CLIENTS:]
    assert all(kind == "evaluate" for kind, _, _ in last)
    by_cluster = {
        label: cluster for cluster in finished.result.clusters.values() for label in cluster.members
    }
    for _, part, model in last:
        cluster = by_cluster[f"part-{part:04d}"]
        for name, values in zip("01", model[:2], strict=True):
            assert not values[~cluster.mask[name]].any()
            assert np.abs(values - cluster.arrays[name].numpy())[cluster.mask[name]].min() > 0


def test_training_and_evaluation_run_at_the_rates_of_fedavg(finished: Finished) -> None:
    exchanges = [(r.phase, r.round, r.asked) for r in finished.seen.rounds]
    trained = [asked for phase, _, asked in exchanges if phase in ("warm-up", "prune")]
    assert set(trained) == {3}  # half of six
    evaluated = [asked for phase, r, asked in exchanges if phase == "evaluate" and r <= ROUNDS]
    assert evaluated == [2] * ROUNDS  # int(0.34 * 6)
    everyone = [phase for phase, _, asked in exchanges if asked == CLIENTS]
    assert everyone == ["cluster", "evaluate", "personalise", "evaluate-personal"]
    assert len(finished.result.evaluate_metrics_clientapp) == ROUNDS


def test_rates_have_fedavgs_minima_and_zero_switches_evaluation_off() -> None:
    run = Finished(fraction_train=0.1, min_train_nodes=4, fraction_evaluate=0.0, personalise=False)
    assert {r.asked for r in run.seen.rounds if r.phase == "prune"} == {4}
    assert all(r.phase != "evaluate" for r in run.seen.rounds)
    assert run.result.evaluate_metrics_clientapp == {}
    assert all(kind == "train" for kind, _, _ in run.client)
    few = Finished(fraction_train=0.0, fraction_evaluate=0.1, min_evaluate_nodes=3)
    assert {r.asked for r in few.seen.rounds if r.phase == "evaluate"} == {3, CLIENTS}
