"""Sums of signs against plain numpy, narrow and wide."""

from fractions import Fraction
from operator import mul

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.errors import ProtocolError
from caafp_app.pruning.signs import SignSum
from caafp_app.vectors.chunks import CHUNK, chunks

WHOLE = st.integers(1, 2000).map(float)
FRACTION = st.integers(1, 2**30).map(lambda quanta: quanta * 2.0**-24)


def add(total, update, weight):
    direct = total.admit(1.0, weight)
    for part in chunks(total.size):
        values = update[part].astype(np.float64)
        total.put(part, values, weight * values, np.empty_like(values), direct)


def value(total):
    return total.read(slice(None))


def signed_sum(updates, weights):
    """The sum in whole numbers of 2**-24, rounded once."""
    quanta = [int(weight * 2**24) for weight in weights]
    signs = np.sign(updates).astype(int).T
    return [float(Fraction(sum(map(mul, row.tolist(), quanta)), 2**24)) for row in signs]


@settings(deadline=None, max_examples=60)
@given(
    weights=st.lists(st.one_of(WHOLE, FRACTION, st.just(2.0**30)), min_size=1, max_size=6),
    seed=st.integers(0, 999),
    order=st.randoms(use_true_random=False),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_equal_to_numpy_in_any_order(weights, seed, order, dtype):
    rng = np.random.default_rng(seed)
    updates = rng.standard_normal((len(weights), 9)).astype(dtype)
    updates[rng.random(updates.shape) < 0.3] = 0.0
    updates[:, 0] = -0.0
    places = list(range(len(weights)))
    first, second = SignSum(9), SignSum(9)
    for place in places:
        add(first, updates[place], weights[place])
    order.shuffle(places)
    for place in places:
        add(second, updates[place], weights[place])
    np.testing.assert_array_equal(value(first), signed_sum(updates, weights))
    assert value(first).tobytes() == value(second).tobytes()
    for key, array in first.state_dict().items():
        assert array.tobytes() == second.state_dict()[key].tobytes()
    restored = SignSum.from_state(first.state_dict())
    assert restored.size == 9
    add(restored, updates[0], weights[0])
    add(first, updates[0], weights[0])
    assert value(restored).tobytes() == value(first).tobytes()


def test_chunks_are_read_as_they_were_put():
    size = CHUNK + 3
    update = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    narrow, wide = SignSum(size), SignSum(size)
    add(narrow, update, 3.0)
    add(wide, update, 2.5)
    add(wide, update, 0.5)
    for part in chunks(size):
        np.testing.assert_array_equal(narrow.read(part), 3 * np.sign(update[part]))
        np.testing.assert_array_equal(wide.read(part), narrow.read(part))


def test_sums_may_leave_32_bits():
    total = SignSum(2)
    for _ in range(4):
        add(total, np.array([1.0, -1.0], np.float32), 2.0**30)
    assert value(total).tolist() == [2.0**32, -(2.0**32)]


def test_sums_of_any_weights_merge_and_another_size_is_refused():
    first, second = SignSum(1), SignSum(1)
    add(first, np.ones(1, np.float32), 2.0**37)
    add(second, np.ones(1, np.float32), 2.0**50)
    with pytest.raises(ProtocolError, match="expected a sum of 1 values"):
        first.merge(SignSum(2))
    first.merge(second)
    assert value(first).tolist() == [2.0**37 + 2.0**50]
