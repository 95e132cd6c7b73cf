"""Cosine distances against scipy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from caafp_app.clustering import assign
from caafp_app.clustering.assign import cosine_distances
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
    close(cosine_distances(rows, others), truth, size=1.0)
    own = cosine_distances(rows)
    close(own, cdist(rows.astype(np.float64), rows.astype(np.float64), "cosine"), size=1.0)
    np.testing.assert_array_equal(own, own.T)
    assert not own.diagonal().any()


def test_blocks_of_columns_add_up(monkeypatch):
    rows = np.random.default_rng(0).standard_normal((4, 101)).astype(np.float32)
    whole, cross = cosine_distances(rows), cosine_distances(rows, rows[:2])
    monkeypatch.setattr(assign, "_BLOCK", 8 * 7)
    close(cosine_distances(rows), whole)
    close(cosine_distances(rows, rows[:2]), cross)


def test_zero_vectors_have_distance_one():
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [-2.0, 0.0]], np.float32)
    assert cosine_distances(rows).tolist() == [
        [0.0, 1.0, 1.0, 1.0],
        [1.0, 0.0, 1.0, 2.0],
        [1.0, 1.0, 0.0, 1.0],
        [1.0, 2.0, 1.0, 0.0],
    ]
    assert cosine_distances(rows, rows[:1]).tolist() == [[1.0]] * 4
