import numpy as np
import pytest

from caafp_app.errors import ProtocolError
from caafp_app.protocol.quantise import BLOCK, Quantised, blocks, dequantise, quantise

F32 = np.dtype(np.float32)


@pytest.mark.parametrize(("size", "expected"), [(0, 0), (1, 1), (256, 1), (257, 2), (512, 2)])
def test_the_last_block_may_be_short(size: int, expected: int) -> None:
    assert blocks(size) == expected


def test_a_block_by_hand() -> None:
    values = np.array([0, 127, -127, 63.5, 1.4, -1.6], np.float32)
    made = quantise(values, 127, None)
    assert made.scale == 127
    assert made.shares == 1
    assert made.codes.tolist() == [0, 127, -127, 64, 1, -2]  # 63.5 goes to even
    assert made.steps(127) == 1
    assert dequantise(made, 127, F32).tolist() == [0, 127, -127, 64, 1, -2]


@pytest.mark.parametrize("levels", [7, 127])
def test_codes_stay_within_the_levels_and_reach_them(levels: int) -> None:
    values = np.random.default_rng(0).standard_normal(100 * BLOCK).astype(np.float32)
    made = quantise(values, levels, np.random.default_rng(1))
    assert made.codes.dtype == np.int8
    assert (made.codes.min(), made.codes.max()) == (-levels, levels)


def test_shares_are_rounded_up() -> None:
    values = np.random.default_rng(0).random(50 * BLOCK).astype(np.float32)
    made = quantise(values, 127, None)
    peaks = values.reshape(-1, BLOCK).max(axis=1)
    reach = made.shares.astype(np.float64) * made.scale
    assert (reach >= peaks * (1 - 1e-7)).all()
    assert (reach <= peaks * (1 + 2**-10 + 1e-6)).all()
    assert made.shares.max() == 1


def test_the_tail_has_a_block_of_its_own() -> None:
    values = np.full(BLOCK + 3, 1000, np.float32)
    values[BLOCK:] = [1, -2, 4]
    made = quantise(values, 127, None)
    assert made.shares.size == 2
    assert dequantise(made, 127, F32)[BLOCK:].tolist() == pytest.approx([1, -2, 4], rel=0.02)


def test_a_step_too_small_for_float32_is_zero() -> None:
    tiny = Quantised(np.array([1e-37], "f4"), np.array([6e-8], "f2"), np.ones(2, np.int8))
    assert tiny.steps(127) == 0
    assert dequantise(tiny, 127, F32).tolist() == [0, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.3e38, 1e300])
def test_what_has_no_scale_is_refused(value: float) -> None:
    with pytest.raises(ProtocolError, match="finite values up to 3e38"):
        quantise(np.array([1.0, value]), 127, None)
