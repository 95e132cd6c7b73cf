"""`largest` against a full, stable sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.pruning.chunks import CHUNK
from caafp_app.pruning.segments import MaskUpdateError
from caafp_app.pruning.topk import kth_largest, largest


def by_sorting(values, count):
    chosen = np.zeros(len(values), bool)
    chosen[sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]] = True
    return chosen


@settings(deadline=None, max_examples=200)
@given(
    values=st.lists(
        st.one_of(
            st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, 5e-324, 1.0 + 2**-52]),
            st.floats(allow_nan=False),
        ),
        max_size=40,
    ),
    share=st.floats(0, 1),
)
def test_same_choice_as_a_stable_sort(values, share):
    count = round(share * len(values))
    np.testing.assert_array_equal(
        largest(np.array(values, np.float64), count), by_sorting(values, count)
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_many_values_few_of_them_distinct(dtype):
    values = np.random.default_rng(0).integers(-3, 4, 5_000).astype(dtype)
    for count in (0, 1, 700, 2_500, 4_999, 5_000):
        np.testing.assert_array_equal(largest(values, count), by_sorting(values, count))


def test_values_that_differ_in_the_last_bit_only():
    values = 1.0 + np.random.default_rng(1).permutation(300) * 2.0**-52
    np.testing.assert_array_equal(largest(values, 120), by_sorting(values, 120))


def test_input_is_left_alone():
    values = np.array([-1.0, 2.0, -3.0])
    largest(values, 1)
    assert values.tolist() == [-1.0, 2.0, -3.0]


@pytest.mark.parametrize("count", [-1, 4])
def test_impossible_counts_are_refused(count):
    with pytest.raises(MaskUpdateError, match="between 0 and 3"):
        largest(np.zeros(3), count)


def test_nan_is_refused():
    with pytest.raises(MaskUpdateError, match="NaN"):
        largest(np.array([1.0, np.nan]), 1)


@pytest.mark.parametrize("distinct", [3, 1 << 40])
def test_vectors_of_several_pieces(distinct):
    size = 2 * CHUNK + 11
    values = np.random.default_rng(2).integers(-distinct, distinct, size) * 1e-3
    order = np.lexsort((np.arange(size), -values))
    for count in (1, CHUNK, size - 5):
        chosen = np.zeros(size, bool)
        chosen[order[:count]] = True
        np.testing.assert_array_equal(largest(values, count), chosen)
        value, ties = kth_largest(values, count)
        assert value == values[order[count - 1]]
        assert ties == np.count_nonzero(values[order[:count]] == value)
