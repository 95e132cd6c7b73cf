import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from caafp_app.bench.statistics import by_client, by_seed, mean_of, paired

NUMBERS = st.floats(-100, 100)


@given(st.lists(NUMBERS, min_size=2, max_size=12))
def test_mean_and_deviation_are_numpys(values: list[float]) -> None:
    found = mean_of([None, *values, None])
    assert found is not None
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert found.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-9)


def test_one_value_has_no_deviation_and_none_no_mean() -> None:
    one = mean_of([3.0])
    assert one is not None
    assert (one.mean, one.n) == (3.0, 1)
    assert math.isnan(one.deviation)
    assert mean_of([None]) is None


@given(st.lists(NUMBERS, min_size=3, max_size=12).filter(lambda v: np.std(v) > 1e-3))
def test_the_interval_is_scipys(differences: list[float]) -> None:
    found = paired(differences)
    truth = ttest_1samp(differences, 0.0).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((truth.low, truth.high))
    assert found.low <= found.mean <= found.high
    assert found.clear == (truth.low > 0 or truth.high < 0)
    assert found.wins == sum(d > 0 for d in differences)


def test_one_pair_has_no_interval() -> None:
    found = paired([2.0])
    assert found is not None
    assert (found.mean, found.n, found.clear) == (2.0, 1, False)
    assert math.isnan(found.low)
    assert paired([]) is None


def test_pairs_are_of_one_seed() -> None:
    assert by_seed({1: 5.0, 2: 7.0, 3: None, 4: 1.0}, {2: 4.0, 1: 4.0, 3: 9.0}) == [1.0, 3.0]


def test_a_client_counts_once_however_many_seeds() -> None:
    ours = {1: {"a": 3.0, "b": 1.0}, 2: {"a": 5.0, "c": 9.0}, 3: {"a": 99.0}}
    theirs = {1: {"a": 1.0, "b": 2.0}, 2: {"a": 1.0}}
    assert by_client(ours, theirs) == [3.0, -1.0]  # a: mean of 2 and 4; b; c has no pair
