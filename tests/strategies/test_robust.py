"""Robust means against numpy and scipy's own, and a liar against them."""

import numpy as np
import pytest
from caafp_app.strategies.robust import HeldReplies, trimmed
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import trim_mean


@settings(deadline=None, max_examples=60)
@given(count=st.integers(1, 12), size=st.integers(0, 40), seed=st.integers(0, 2**32))
@pytest.mark.parametrize("rule", ["trimmed-mean", "median"])
def test_the_estimates_are_those_of_numpy_in_any_order(
    rule: str, count: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, size)).astype(np.float32)
    rest = rng.normal(size=(count, 3)).astype(np.float32)
    results = []
    for order in (np.arange(count), rng.permutation(count)):
        held = HeldReplies(rule)
        for k in order:
            held.add(values[k], rest[k])
        moved = np.ones(size, np.float32), np.zeros(3, np.float32)
        held.move(*moved)
        results.append(moved)
    for one, other in zip(*results, strict=True):
        assert one.tobytes() == other.tobytes()
    for found, updates, start in ((results[0][0], values, 1), (results[0][1], rest, 0)):
        double = updates.astype(np.float64)
        expected = np.median(double, axis=0)
        if rule == "trimmed-mean":
            expected = trim_mean(double, trimmed(count) / count + 1e-9, axis=0)
        np.testing.assert_allclose(found - start, expected, atol=3e-7)


def test_long_vectors_are_done_in_pieces() -> None:
    values = np.random.default_rng(1).normal(size=(5, 300_000)).astype(np.float32)
    held = HeldReplies("median")
    for row in values:
        held.add(row, row[:0])
    moved = np.zeros(300_000, np.float32)
    held.move(moved, np.zeros(0, np.float32))
    np.testing.assert_array_equal(moved, np.median(values, axis=0))


def test_nothing_held_moves_nothing() -> None:
    vector = np.ones(3, np.float32)
    HeldReplies("median").move(vector, vector)
    assert vector.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("count", "cut"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2), (10, 2)]
)
def test_a_fifth_is_left_out_at_each_end_and_something_always_left(count: int, cut: int) -> None:
    assert trimmed(count) == cut
    assert count - 2 * cut >= 1
