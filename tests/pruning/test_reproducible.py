"""`ReproducibleSum` against numpy and against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.errors import ProtocolError
from caafp_app.pruning.reproducible import ReproducibleSum, rounded_weight
from caafp_app.vectors.chunks import CHUNK, chunks

finite = st.floats(-64, 64, width=32)


def read(total):
    return total.read(slice(None))


def exact_sum(terms: list[float], quantum: int) -> float:
    """Sum of terms rounded to the quantum, half to even, in rational arithmetic."""
    scale = Fraction(2) ** quantum
    return float(sum(round(Fraction(term) / scale) for term in terms) * scale)


def test_chunks_cover_the_range_once():
    size = 2 * CHUNK + 5
    assert [i for part in chunks(size) for i in range(part.start, part.stop)] == list(range(size))
    assert max(part.stop - part.start for part in chunks(size)) == CHUNK


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.tuples(finite, st.integers(1, 1000)), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
    quantum=st.sampled_from([-42, -36, -20, -3]),
)
def test_equals_the_exact_sum_of_rounded_terms_in_any_order(values, order, quantum):
    shuffled = list(values)
    order.shuffle(shuffled)
    sums = []
    for replies in (values, shuffled):
        total = ReproducibleSum(1, quantum)
        for value, weight in replies:
            total.add(np.array([value], np.float32), weight)
        sums.append(float(read(total)[0]))
    terms = [float(np.float32(value)) * weight for value, weight in values]
    assert sums[0] == sums[1] == exact_sum(terms, quantum)


def test_terms_are_rounded_half_to_even():
    total = ReproducibleSum(3, -36)
    total.add(np.array([3.3e-11, 0.5 * 2.0**-36, 1.5 * 2.0**-36]))
    assert read(total).tolist() == [2.0**-35, 0.0, 2.0**-35]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.dictionaries(st.integers(0, 19), finite, max_size=8),
        min_size=1,
        max_size=5,
    )
)
def test_add_at_equals_adding_dense_vectors(replies):
    sparse, dense = ReproducibleSum(20, -30), ReproducibleSum(20, -30)
    for number, reply in enumerate(replies, start=1):
        index = np.array(sorted(reply), np.int64)
        values = np.array([reply[i] for i in sorted(reply)], np.float32)
        full = np.zeros(20, np.float32)
        full[index] = values
        sparse.add_at(index, values, number)
        dense.add(full, number)
    assert read(sparse).tobytes() == read(dense).tobytes()


@pytest.mark.parametrize(
    ("index", "values"),
    [
        ([3, 2], [1.0, 1.0]),
        ([2, 2], [1.0, 1.0]),
        ([-1], [1.0]),
        ([5], [1.0]),
        ([1], [np.nan]),
        ([1], [1.0, 2.0]),
        ([[1]], [[1.0]]),
        ([0.0], [1.0]),
    ],
)
def test_add_at_refuses_bad_positions_and_values(index, values):
    total = ReproducibleSum(5, -30)
    with pytest.raises(ProtocolError):
        total.add_at(np.array(index), np.array(values, np.float32))
    assert not read(total).any()


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.0, np.nan, 0.0], np.float32),
        np.array([1.0, np.inf, 0.0], np.float32),
        np.array([1.0, -np.inf, 0.0]),
        np.ones(2, np.float32),
        np.ones((3, 1), np.float32),
        np.ones(3, np.int64),
        np.full(3, 1e37),
    ],
)
def test_refuses_what_must_not_enter_and_stays_as_it_was(values):
    total = ReproducibleSum(3, -36)
    total.add(np.ones(3, np.float32))
    with pytest.raises(ProtocolError, match="expected"):
        total.add(values)
    assert read(total).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_refuses_factors_that_are_not_finite(weight):
    with pytest.raises(ProtocolError):
        ReproducibleSum(1, -36).add(np.zeros(1), weight)


@settings(deadline=None, max_examples=60)
@given(
    terms=st.lists(st.tuples(finite, st.integers(0, 60)), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
    cut=st.integers(0, 12),
)
def test_sums_of_any_size_are_exact_in_any_order_merged_and_saved(terms, order, cut):
    """Steps of 1: a first level below 2**62, and terms are coarse from 2**61 on."""
    terms = [value * 2.0**power for value, power in terms]
    coarse = [round(Fraction(term) / 2**32) * 2**32 for term in terms if abs(term) >= 2.0**61]
    exact = sum(coarse) + sum(round(Fraction(term)) for term in terms if abs(term) < 2.0**61)
    seen = set()
    for _ in range(3):
        order.shuffle(terms)
        first, second = ReproducibleSum(2, 0), ReproducibleSum(2, 0)
        for number, term in enumerate(terms):
            (second if number < cut else first).add(np.array([term, -term]))
        first.merge(ReproducibleSum.from_state(second.state_dict()))
        seen.add(read(first).tobytes())
    assert len(seen) == 1
    assert read(first)[0] == pytest.approx(float(exact), rel=1e-15, abs=0)
    assert read(first)[1] == -read(first)[0]


def test_what_has_room_in_the_first_level_takes_the_memory_of_one():
    total = ReproducibleSum(1, -36)  # below 2**26
    for _ in range(3):
        total.add(np.array([2.0**24]))
    assert total.state_dict()["quanta"].shape == (1, 1)
    total.add(np.array([2.0**24]))
    assert total.state_dict()["quanta"].shape == (2, 1)
    total.add(np.array([2.0**-36]))
    assert read(total)[0] == 2.0**26  # as near as float64 is


def test_large_values_at_different_positions_leave_room():
    total = ReproducibleSum(4, -36)  # sums below 2**26
    for position in range(4):
        total.add(np.eye(4)[position] * -(2.0**24))
    assert read(total).tolist() == [-(2.0**24)] * 4


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf, 2.0**80, 1e-9])
def test_absurd_weights_are_refused(weight):
    with pytest.raises(ProtocolError, match="weight"):
        rounded_weight(weight)


@pytest.mark.parametrize("weight", [1, 37, 12_345.5, 2**37])
def test_counts_keep_their_value(weight):
    assert rounded_weight(weight) == weight


def test_other_weights_are_rounded_to_a_multiple():
    assert rounded_weight(0.1) * 2**24 == round(0.1 * 2**24)


def test_merge_looks_at_the_sums_where_their_terms_cancelled():
    first, second = ReproducibleSum(1, -36), ReproducibleSum(1, -36)
    for total in (first, second):
        total.add(np.array([2.0**25]))
        total.add(np.array([1.0 - 2.0**25]))
    first.merge(second)
    assert read(first).tolist() == [2.0]


@pytest.mark.parametrize("other", [ReproducibleSum(3, -36), ReproducibleSum(2, -30)])
def test_merge_refuses_another_size_or_quantum(other):
    with pytest.raises(ProtocolError, match="expected a sum of 2 values in steps of 2"):
        ReproducibleSum(2, -36).merge(other)
