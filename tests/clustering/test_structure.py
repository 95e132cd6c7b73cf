"""No groups where there are none, however the cloud lies; planted ones are found."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score

from caafp_app.clustering import structure
from caafp_app.clustering.structure import _distances, _partitions, find_structure, silhouette


def planted(truth, width=400):
    """Directions with a common part, one of the group, and noise."""
    rng = np.random.default_rng(0)
    groups = rng.standard_normal((truth.max() + 1, width))
    return (
        rng.standard_normal(width) + groups[truth] + 0.7 * rng.standard_normal((truth.size, width))
    )


def test_a_cloud_that_is_long_in_some_directions_is_one_cluster():
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        stretch = 1.0 / np.arange(1, 301) ** 2
        cloud = rng.standard_normal((14, 300)) * stretch + rng.standard_normal(300)
        found.append(find_structure(cloud, seed=seed))
    assert sum(one.labels.any() for one in found) <= 1
    # As often good as bad: the test is exact.
    assert 0.3 <= np.mean([one.p for one in found]) <= 0.7


@pytest.mark.parametrize("linkage", ["average", "complete"])
@pytest.mark.parametrize("groups", [2, 3, 4])
def test_planted_groups_are_found_and_counted(linkage, groups):
    truth = np.arange(20) % groups
    found = find_structure(planted(truth), linkage=linkage)
    assert adjusted_rand_score(truth, found.labels) == 1.0
    assert found.p == 0.005
    assert found.note.startswith(f"{groups} clusters: silhouette ")


def test_an_odd_client_makes_no_cluster():
    rng = np.random.default_rng(3)
    cloud = rng.standard_normal((15, 200))
    cloud[4] += 5 * rng.standard_normal(200)
    assert not find_structure(cloud).labels.any()
    truth = np.array([0, 1] * 8 + [2])
    assert np.bincount(find_structure(planted(truth)).labels).min() >= 2


def test_few_clients_and_none_that_differ_are_one_cluster():
    assert find_structure(np.eye(3)).note == "one cluster: 3 clients are too few for groups"
    assert not find_structure(np.zeros((8, 5))).labels.any()
    assert not find_structure(np.ones((8, 5))).labels.any()


def test_of_many_clients_a_sample_is_tested_and_all_are_clustered(monkeypatch):
    monkeypatch.setattr(structure, "TESTED", 30)
    truth = np.arange(120) % 3
    found = find_structure(planted(truth, width=60))
    assert adjusted_rand_score(truth, found.labels) > 0.99


def test_the_silhouette_is_scikit_learns():
    distances = _distances(np.cov(np.random.default_rng(0).standard_normal((12, 6))))
    for labels in _partitions(distances, "average", 1).values():
        expected = silhouette_score(distances, labels, metric="precomputed")
        assert silhouette(distances, labels) == pytest.approx(expected)
