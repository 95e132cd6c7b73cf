import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from caafp_app.protocol.half import LARGEST, from_half, to_half

EVERY = np.arange(1 << 16, dtype=np.uint16)
FINITE = EVERY[(EVERY & 0x7C00) != 0x7C00].view(np.float16)
"""All finite numbers of float16, the negative zero and the subnormal ones among them."""


def truth(values: NDArray[np.float32]) -> NDArray[np.float16]:
    return np.clip(values, -LARGEST, LARGEST).astype(np.float16)


def test_every_half_is_widened_exactly() -> None:
    wide = FINITE.astype(np.float32)
    assert from_half(FINITE, np.dtype(np.float32)).tobytes() == wide.tobytes()
    assert from_half(FINITE, np.dtype(np.float64)).tobytes() == FINITE.astype(np.float64).tobytes()
    assert to_half(wide).tobytes() == FINITE.tobytes()


def test_every_tie_goes_to_even() -> None:
    wide = np.sort(FINITE.astype(np.float32))
    middle = (wide[1:] + wide[:-1]) / 2
    assert to_half(middle).tobytes() == truth(middle).tobytes()
    for beside in (
        np.nextafter(middle, np.float32(-np.inf)),
        np.nextafter(middle, np.float32(np.inf)),
    ):
        assert to_half(beside).tobytes() == truth(beside).tobytes()


@given(
    values=hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32, allow_nan=False))
)
def test_rounds_as_numpy_does(values: NDArray[np.float32]) -> None:
    assert to_half(values).tobytes() == truth(values).tobytes()


def test_all_magnitudes_over_many_blocks() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 32, 300_001, dtype=np.uint32).view(np.float32)
    values = values[~np.isnan(values)]
    assert to_half(values).tobytes() == truth(values).tobytes()
    assert to_half(values[::3]).tobytes() == truth(values[::3]).tobytes()
    half = to_half(values)
    assert from_half(half, np.dtype("f4")).tobytes() == half.astype(np.float32).tobytes()


def test_float64_goes_by_float32() -> None:
    assert to_half(np.array([0.1, 1e-7, -3.0])).tolist() == [
        np.float16(0.1),
        np.float16(1e-7),
        -3.0,
    ]
