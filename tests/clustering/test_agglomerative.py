"""Clusters: planted groups, choice of their number, small clusters, many clients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from caafp_app.clustering.agglomerative import cluster
from caafp_app.clustering.assign import assign, centroids_of
from caafp_app.errors import CaafpError, ProtocolError, RunError, SettingsError


def planted(truth, seed=0, width=400, noise=1.0):
    """Updates with a common direction, one per group, and noise, of uneven length."""
    rng = np.random.default_rng(seed)
    truth = np.asarray(truth)
    groups = rng.standard_normal((truth.max() + 1, width))
    updates = rng.standard_normal(width) + groups[truth]
    updates += noise * rng.standard_normal((truth.size, width))
    return (updates * rng.uniform(0.1, 10, (truth.size, 1))).astype(np.float32)


@pytest.mark.parametrize("linkage", ["average", "complete"])
@pytest.mark.parametrize("k", [3, 0])
def test_planted_groups_are_found(linkage, k):
    truth = np.array([2, 0, 1] * 5 + [0, 0, 0])
    result = cluster(planted(truth), k, linkage=linkage)
    assert adjusted_rand_score(truth, result.labels) == 1.0
    assert result.k == 3
    assert result.centroids.shape == (3, 400)
    assert ("chosen by silhouette: 3" in result.note) == (k == 0)


@settings(deadline=None, max_examples=30)
@given(
    clients=st.integers(1, 14),
    k=st.integers(0, 5),
    min_size=st.integers(1, 5),
    linkage=st.sampled_from(["average", "complete"]),
    seed=st.integers(0, 999),
)
def test_laws_of_a_clustering(clients, k, min_size, linkage, seed):
    sketches = np.random.default_rng(seed).standard_normal((clients, 6)).astype(np.float32)
    if k > clients:
        with pytest.raises(SettingsError, match=f"at most {clients} clusters"):
            cluster(sketches, k, linkage=linkage)
        return
    result = cluster(sketches, k, linkage=linkage, min_size=min_size)
    sizes = np.bincount(result.labels)
    assert sizes.size == result.k
    assert result.k == 1 or sizes.min() >= min_size
    assert result.k <= max(k, 1) or k == 0
    if k and min_size == 1:
        assert result.k == k
    _, first = np.unique(result.labels, return_index=True)
    assert first.tolist() == sorted(first)
    np.testing.assert_array_equal(result.centroids, centroids_of(sketches, result.labels, result.k))
    again = cluster(sketches, k, linkage=linkage, min_size=min_size)
    np.testing.assert_array_equal(again.labels, result.labels)


def test_noise_alone_is_one_cluster():
    rng = np.random.default_rng(0)
    common = rng.standard_normal(2_000)
    for clients in (12, 36):
        result = cluster(common + rng.standard_normal((clients, 2_000)), 0)
        assert result.k == 1


def test_groups_have_to_be_as_distinct_as_asked_for():
    sketches = planted([2, 0, 1] * 5, noise=2.0)
    assert cluster(sketches, 0).k == 3
    one = cluster(sketches, 0, min_silhouette=0.25)
    assert one.labels.tolist() == [0] * 15
    assert "chosen by silhouette: 1 (2: " in one.note
    assert one.note.endswith("; none above 0.25)")
    assert cluster(sketches, 3, min_silhouette=0.25).k == 3


@pytest.mark.parametrize("clients", [1, 2])
def test_too_few_clients_for_a_choice_are_one_cluster(clients):
    result = cluster(np.eye(clients, 3), 0)
    assert result.labels.tolist() == [0] * clients
    assert "too few clients" in result.note


def test_small_clusters_join_the_nearest():
    # A lone client near the second group, and one cluster for it asked for.
    sketches = np.array([[1, 0], [1, 0.01], [0, 1], [0.01, 1], [-0.6, 0.8]], np.float32)
    assert cluster(sketches, 3).labels.tolist() == [0, 0, 1, 1, 2]
    result = cluster(sketches, 3, min_size=2)
    assert result.labels.tolist() == [0, 0, 1, 1, 1]
    assert result.note == "1 of 3 clusters had under 2 clients: merged"
    assert cluster(sketches, 3, min_size=9).labels.tolist() == [0] * 5


def test_clients_without_an_update_do_not_break_it():
    sketches = np.vstack([planted([0, 0, 0, 1, 1, 1], noise=0.2), np.zeros((2, 400), np.float32)])
    result = cluster(sketches, 4)
    assert result.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 3]
    assert cluster(np.zeros((4, 3)), 0).k == 1


def test_above_the_limit_a_sample_is_clustered_and_the_rest_assigned(monkeypatch):
    monkeypatch.setattr("caafp_app.clustering.agglomerative.SAMPLE_LIMIT", 60)
    truth = np.random.default_rng(4).integers(0, 3, 300)
    sketches = planted(truth)
    result = cluster(sketches, 3, seed=5)
    assert adjusted_rand_score(truth, result.labels) == 1.0
    assert "sample of 60 of 300 clients" in result.note
    np.testing.assert_array_equal(assign(sketches, result.centroids), result.labels)
    again = cluster(sketches, 3, seed=5)
    np.testing.assert_array_equal(again.labels, result.labels)
    chosen = cluster(sketches, 0, min_size=30)
    assert chosen.k == 3


@pytest.mark.parametrize(
    ("sketches", "arguments", "error"),
    [
        (np.empty((0, 3)), {"k": 2}, RunError),
        (np.eye(3), {"k": 4}, SettingsError),
        (np.eye(3), {"k": -1}, SettingsError),
        (np.eye(3), {"k": 2, "min_size": 0}, SettingsError),
        (np.eye(3), {"k": 0, "min_silhouette": 2.0}, SettingsError),
        (np.full((3, 2), np.nan), {"k": 2}, ProtocolError),
    ],
)
def test_what_cannot_be_clustered_is_refused(sketches, arguments, error):
    with pytest.raises(error, match="expected") as caught:
        cluster(sketches, **arguments)
    assert isinstance(caught.value, CaafpError)
