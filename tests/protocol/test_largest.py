import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.largest import largest_magnitudes

few = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, -3e38])
any_float = st.floats(width=32, allow_nan=False, allow_infinity=False)


def truth(values: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    magnitude = np.abs(values)
    order = np.argsort(-magnitude, kind="stable")[: max(count, 0)]
    return np.sort(order[magnitude[order] > 0])


@given(
    values=hnp.arrays(np.float32, st.integers(0, 60), elements=st.one_of(few, any_float)),
    count=st.integers(-1, 70),
)
def test_as_a_stable_sort_chooses(values: NDArray[np.float32], count: int) -> None:
    np.testing.assert_array_equal(largest_magnitudes(values, count), truth(values, count))


@pytest.mark.parametrize("count", [1, 2, 1000, 99_999, 200_000])
@pytest.mark.parametrize("distinct", [3, 300, 2**24])
def test_many_values_few_of_them_different(count: int, distinct: int) -> None:
    rng = np.random.default_rng(count)
    values = (rng.integers(-distinct, distinct, 200_000) / distinct).astype(np.float32)
    np.testing.assert_array_equal(largest_magnitudes(values, count), truth(values, count))


def test_float64_is_compared_as_float32() -> None:
    values = np.array([1.0, 1.0 + 1e-12, 2.0])
    assert largest_magnitudes(values, 2).tolist() == [0, 2]


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("count", [0, 1, 9])
def test_what_is_not_finite_is_refused(bad: float, count: int) -> None:
    with pytest.raises(ProtocolError, match="NaN or infinity"):
        largest_magnitudes(np.array([1.0, bad, 2.0]), count)
