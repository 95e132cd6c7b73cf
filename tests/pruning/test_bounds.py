"""Norms of vectors and weights of clients, against numpy."""

import math

import numpy as np
import pytest

from caafp_app.pruning.bounds import capped, norm_of, scaled, shrink


def test_norm_and_clip_against_numpy() -> None:
    rng = np.random.default_rng(1)
    vector = rng.normal(size=300_001).astype(np.float32)
    assert norm_of(vector[:7], vector[7:]) == pytest.approx(float(np.linalg.norm(vector)), rel=1e-6)
    assert norm_of(np.full(4, 1e30, np.float32)) == pytest.approx(2e30)
    assert math.isnan(norm_of(np.array([np.nan])))
    assert shrink(5.0, 10.0) == 1.0
    assert np.linalg.norm(scaled(vector, shrink(norm_of(vector), 10.0))) == pytest.approx(10)
    assert scaled(vector, 0.5).dtype == np.float32
    assert scaled(vector, 1.0) is vector


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([1.0, 2, 3, 1e9], [1.0, 2, 2, 2]), ([0.0, 0, 5, 7], [0.0, 0, 5, 5]), ([], [])],
)
def test_weights_known_together_are_cut(weights: list[float], expected: list[float]) -> None:
    assert capped(weights) == expected


def test_shrink() -> None:
    assert [shrink(2, 1), shrink(1, 1), shrink(0, 0), shrink(3, math.inf)] == [0.5, 1, 1, 1]
