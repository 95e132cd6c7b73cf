"""Robust means against numpy's and scipy's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import trim_mean

from caafp_app.registry import AGGREGATIONS
from caafp_app.runner.aggregation import trimmed


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
        results.append(AGGREGATIONS[rule].estimate([(values[k], rest[k]) for k in order]))
    for one, other in zip(*results, strict=True):
        assert one.tobytes() == other.tobytes()
    for found, updates in zip(results[0], (values, rest), strict=True):
        double = updates.astype(np.float64)
        expected = np.median(double, axis=0)
        if rule == "trimmed-mean":
            expected = trim_mean(double, trimmed(count) / count + 1e-9, axis=0)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_long_vectors_are_done_in_pieces() -> None:
    values = np.random.default_rng(1).normal(size=(5, 300_000)).astype(np.float32)
    found, rest = AGGREGATIONS["median"].estimate([(row, row[:0]) for row in values])
    np.testing.assert_array_equal(found, np.median(values, axis=0))
    assert rest.size == 0


def test_the_exact_mean_holds_no_replies() -> None:
    assert {name: AGGREGATIONS[name].holds for name in AGGREGATIONS.builtin} == {
        "mean": False,
        "trimmed-mean": True,
        "median": True,
    }


@pytest.mark.parametrize(
    ("count", "cut"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2), (10, 2)]
)
def test_a_fifth_is_left_out_at_each_end_and_something_always_left(count: int, cut: int) -> None:
    assert trimmed(count) == cut
    assert count - 2 * cut >= 1
