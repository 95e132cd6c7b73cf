"""Distances against scipy, centroids, newcomers, and numbers that stay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from caafp_app.clustering import assign as module
from caafp_app.clustering.assign import assign, centroids_of, cosine_distances, keep_numbers
from tests.tolerance import close


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 8),
    m=st.integers(1, 5),
    width=st.integers(1, 30),
    seed=st.integers(0, 999),
    scale=st.sampled_from([1e-30, 1.0, 1e30]),
)
def test_distances_equal_scipys(n, m, width, seed, scale):
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((n, width)) * scale).astype(np.float32)
    others = rng.standard_normal((m, width)).astype(np.float32)
    truth = cdist(rows.astype(np.float64), others.astype(np.float64), "cosine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", 8 * 7)  # of some columns only
        close(cosine_distances(rows, others), truth, size=1.0)
    own = cosine_distances(rows)
    close(own, cdist(rows.astype(np.float64), rows.astype(np.float64), "cosine"), size=1.0)
    np.testing.assert_array_equal(own, own.T)
    assert not own.diagonal().any()


def test_zero_vectors_have_distance_one():
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [-2.0, 0.0]], np.float32)
    assert cosine_distances(rows).tolist() == [
        [0.0, 1.0, 1.0, 1.0],
        [1.0, 0.0, 1.0, 2.0],
        [1.0, 1.0, 0.0, 1.0],
        [1.0, 2.0, 1.0, 0.0],
    ]
    assert cosine_distances(rows, rows[:1]).tolist() == [[1.0]] * 4


def test_centroids_are_mean_directions():
    sketches = np.array([[2.0, 0.0], [0.0, 9.0], [0.0, -4.0], [0.0, 0.0]], np.float32)
    centroids = centroids_of(sketches, np.array([0, 0, 2, 2]), 4)
    assert centroids.dtype == np.float32
    assert centroids.tolist() == [[0.5, 0.5], [0.0, 0.0], [0.0, -0.5], [0.0, 0.0]]


def test_newcomers_join_the_nearest_direction():
    centroids = np.array([[1.0, 0.0], [0.0, 5.0]], np.float32)
    newcomers = np.array([[3.0, 1.0], [0.1, 0.2], [-1.0, 0.5], [1.0, 1.0], [0.0, 0.0]], np.float32)
    labels = assign(newcomers, centroids)
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 1, 0, 0]


def numbered(numbers: str) -> dict[str, int]:
    return dict(zip("abcde", map(int, numbers), strict=False))


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ("0012", "2201", "0012"),  # the same groups in another order
        ("00111", "11100", "00011"),  # one client changes sides
        ("00000", "00111", "11000"),  # the larger part keeps the number
        ("0", "", ""),
        ("", "01", "01"),
    ],
)
def test_clusters_keep_the_numbers_that_most_of_their_clients_had(before, after, kept):
    assert keep_numbers(numbered(before), numbered(after)) == numbered(kept)


Clusterings = st.dictionaries(st.sampled_from("abcdefghij"), st.integers(0, 3), min_size=1)


def groups(labels: dict[str, int]) -> set[frozenset[str]]:
    numbers = set(labels.values())
    return {frozenset(k for k, number in labels.items() if number == n) for n in numbers}


@given(before=Clusterings, after=Clusterings)
def test_groups_are_what_they_were(before: dict[str, int], after: dict[str, int]) -> None:
    kept = keep_numbers(before, after)
    assert kept.keys() == after.keys()
    assert groups(kept) == groups(after)
