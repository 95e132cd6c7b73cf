"""The selections against a full, stable sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.errors import MaskUpdateError, ProtocolError
from caafp_app.vectors.chunks import CHUNK
from caafp_app.vectors.largest import kth_largest, largest, largest_magnitudes


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.95, 1.0])
def test_a_long_vector_of_many_zeros_at_every_rank(dtype, zeros):
    size = 50_000
    rng = np.random.default_rng(4)
    values = np.where(rng.random(size) < zeros, 0.0, rng.standard_normal(size)).astype(dtype)
    order = np.lexsort((np.arange(size), -values))
    for count in (1, 100, size // 40, size // 2, size - size // 40, size - 1):
        chosen = np.zeros(size, bool)
        chosen[order[:count]] = True
        np.testing.assert_array_equal(largest(values, count), chosen)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_sample_that_misleads_changes_nothing(place):
    # Every ninth value is what the sample sees: at place 0 nothing but the outliers.
    values = np.random.default_rng(5).standard_normal(9 * 8192)
    values[place::9] = [1e9, -1e9, 0.0][place]
    order = np.lexsort((np.arange(values.size), -values))
    for count in (1, 8192, values.size // 2, values.size - 8):
        chosen = np.zeros(values.size, bool)
        chosen[order[:count]] = True
        np.testing.assert_array_equal(largest(values, count), chosen)


few = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, -3e38])
any_float = st.floats(width=32, allow_nan=False, allow_infinity=False)


def by_magnitude(values, count):
    magnitude = np.abs(values)
    order = np.argsort(-magnitude, kind="stable")[: max(count, 0)]
    return np.sort(order[magnitude[order] > 0])


@given(
    values=st.lists(st.one_of(few, any_float), max_size=60),
    count=st.integers(-1, 70),
)
def test_magnitudes_as_a_stable_sort_chooses(values, count):
    values = np.array(values, np.float32)
    np.testing.assert_array_equal(largest_magnitudes(values, count), by_magnitude(values, count))


@pytest.mark.parametrize("count", [1, 2, 1000, 99_999, 200_000])
@pytest.mark.parametrize("distinct", [3, 300, 2**24])
def test_many_magnitudes_few_of_them_different(count, distinct):
    rng = np.random.default_rng(count)
    values = (rng.integers(-distinct, distinct, 200_000) / distinct).astype(np.float32)
    np.testing.assert_array_equal(largest_magnitudes(values, count), by_magnitude(values, count))


def test_magnitudes_of_float64_are_compared_as_float32():
    values = np.array([1.0, 1.0 + 1e-12, 2.0])
    assert largest_magnitudes(values, 2).tolist() == [0, 2]


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("count", [0, 1, 9])
def test_magnitudes_that_are_not_finite_are_refused(bad, count):
    with pytest.raises(ProtocolError, match="NaN or infinity"):
        largest_magnitudes(np.array([1.0, bad, 2.0]), count)
