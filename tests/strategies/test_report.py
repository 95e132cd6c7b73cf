"""The mean model of a result, also where liars have a cluster of their own."""

import numpy as np
import pytest
from flwr.app import ArrayRecord

from caafp_app.protocol.layout import Layout
from caafp_app.runner.model import SparseModel
from caafp_app.runner.roster import Client
from caafp_app.strategies.report import ClusteredResult, ClusterResult, mean_of_clusters

LAYOUT = Layout.of({"w": np.zeros((1, 2), np.float32)})


def model(*values: float) -> SparseModel:
    return SparseModel.dense(LAYOUT, LAYOUT.flatten({"w": np.array([values], np.float32)}))


def clients(cluster: int, *examples: int) -> list[Client]:
    return [Client(f"{cluster}-{k}", k, n, cluster) for k, n in enumerate(examples)]


def test_the_mean_model_is_weighted_by_examples() -> None:
    models = {0: model(3, 4), 1: model(0, 5)}
    members = {0: clients(0, 10, 20), 1: clients(1, 10)}
    for robust, share in ((False, 30 / 40), (True, 20 / 30)):
        found = mean_of_clusters(models, members, robust=robust).flat.weights
        np.testing.assert_allclose(found, [3 * share, 5 - share], rtol=1e-6)


@pytest.mark.parametrize("size", [50.0, 1e6, 1e30, np.inf])
def test_a_cluster_of_liars_moves_the_mean_model_by_its_share(size: float) -> None:
    models = {0: model(3, 4), 1: model(-size, 0)}
    members = {0: clients(0, *[10] * 7), 1: clients(1, *[10**9] * 3)}
    found = mean_of_clusters(models, members, robust=True).flat.weights
    expected = [3, 4] if np.isinf(size) else [(7 * 3 - 3 * 1.5 * 5) / 10, 7 * 4 / 10]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


def test_a_result_is_told_in_short() -> None:
    labels = tuple(f"part-{k:04d}" for k in range(900))
    told = repr(ClusteredResult(clusters={0: ClusterResult(ArrayRecord(), {}, labels, 0.5)}))
    assert "0: part-0000, part-0001" in told
    assert "part-0007 and 892 more; density 0.5" in told
