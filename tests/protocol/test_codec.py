from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError, SettingsError
from caafp_app.protocol.codec import codec_for
from caafp_app.registry import CODECS

F32 = np.dtype(np.float32)
names = st.sampled_from(sorted(CODECS.builtin))
lossy = st.sampled_from(["float16", "int8"])
sizes = st.one_of(st.integers(0, 20), st.sampled_from([255, 256, 257, 511, 512, 65_535, 65_537]))
seeds = st.integers(0, 2**32 - 1)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sent(
    name: str, values: NDArray[np.floating], rng: np.random.Generator | None = None
) -> NDArray[np.floating]:
    """What arrives of values, as their own dtype."""
    codec = codec_for(name)
    return codec.decode(codec.encode(values, rng), values.size, values.dtype, False)


def normal(size: int, scale: float = 1e-3, seed: int = 0) -> NDArray[np.float32]:
    return (generator(seed).standard_normal(size) * scale).astype(np.float32)


def steps(values: NDArray[np.float32], levels: int) -> NDArray[np.floating]:
    """The step of each value by the law in the docstrings: its block's largest over the levels."""
    found = np.zeros_like(values)
    for start in range(0, values.size, 256):
        block = slice(start, start + 256)
        # The share of the array's largest is a float16, rounded up; 6e-8 is the smallest.
        found[block] = max(abs(values[block]).max() * (1 + 2**-9), 6e-8 * abs(values).max())
    return found / levels


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("float32", lambda n: 4 * n),
        ("float16", lambda n: 2 * n),
        ("int8", lambda n: n + 2 * ((n + 255) // 256) + 4),
    ],
)
@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 1000, 65_537])
def test_byte_law_is_exact(name: str, law: Callable[[int], int], size: int) -> None:
    encoded = codec_for(name).encode(normal(size), generator())
    assert encoded.nbytes == law(size)
    assert encoded.ndim == 1


@given(name=names, size=sizes, dtype=st.sampled_from(["float32", "float64"]))
def test_round_trip_has_size_and_dtype(name: str, size: int, dtype: str) -> None:
    decoded = sent(name, normal(size).astype(dtype), generator())
    assert decoded.shape == (size,)
    assert decoded.dtype == dtype
    assert np.isfinite(decoded).all()


@given(
    values=hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.integers(0, 40),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_float32_is_exact(values: NDArray[np.floating]) -> None:
    assert sent("float32", values).tobytes() == values.tobytes()


@given(
    values=hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(-60_000, 60_000, width=32))
)
def test_float16_error_is_bounded(values: NDArray[np.float32]) -> None:
    bound = np.maximum(abs(values) * 2.0**-11, 2.0**-25)
    assert (abs(sent("float16", values) - values.astype(np.float64)) <= bound).all()


@given(
    size=sizes,
    seed=seeds,
    scale=st.sampled_from([1e-30, 1e-8, 1e-3, 1.0, 1e4, 1e30]),
    random=st.booleans(),
)
def test_quantised_error_is_below_a_step(size: int, seed: int, scale: float, random: bool) -> None:
    values = normal(size, scale, seed)
    decoded = sent("int8", values, generator(seed) if random else None)
    assert (abs(decoded - values) <= steps(values, 127) * (1.0 if random else 0.501)).all()


def test_int8_by_hand() -> None:
    values = np.array([0, 127, -127, 63.5, 1.4, -1.6], np.float32)
    data = codec_for("int8").encode(values, None)
    assert (data[:4].view(np.float32), data[4:6].view(np.float16)) == (127, 1)
    assert data[6:].view(np.int8).tolist() == [0, 127, -127, 64, 1, -2]  # 63.5 goes to even
    assert sent("int8", values).tolist() == [0, 127, -127, 64, 1, -2]


def test_shares_are_rounded_up_and_codes_reach_the_levels() -> None:
    values = generator().random(50 * 256).astype(np.float32)
    data = codec_for("int8").encode(values, generator(1))
    shares, codes = data[4:104].view(np.float16), data[104:].view(np.int8)
    peaks = values.reshape(-1, 256).max(axis=1)
    reach = shares.astype(np.float64) * data[:4].view(np.float32)
    assert (reach >= peaks * (1 - 1e-7)).all()
    assert (reach <= peaks * (1 + 2**-10 + 1e-6)).all()
    assert (shares.max(), codes.min(), codes.max()) == (1, 0, 127)


def test_a_step_too_small_for_float32_is_zero() -> None:
    tiny = np.array([1e-37], "f4"), np.array([6e-8], "f2"), np.ones(2, np.int8)
    data = np.concatenate([part.view(np.uint8) for part in tiny])
    assert codec_for("int8").decode(data, 2, F32, False).tolist() == [0, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.3e38, 1e300])
def test_what_has_no_scale_is_refused(value: float) -> None:
    with pytest.raises(ProtocolError, match="finite values up to 3e38"):
        codec_for("int8").encode(np.array([1.0, value]), None)


@pytest.mark.parametrize(
    ("place", "dtype", "number", "why"),
    [
        *((slice(4), np.float32, n, "finite") for n in (np.nan, np.inf, -1.0, 3.3e38)),
        *((slice(6, 8), np.float16, n, r"within \[0, 1\]") for n in (np.nan, np.inf, -0.5, 1.001)),
    ],
)
def test_an_impossible_scale_or_share_is_refused(
    place: slice, dtype: type, number: float, why: str
) -> None:
    codec = codec_for("int8")
    data = codec.encode(normal(300), None)
    data[place] = np.array([number], dtype).view(np.uint8)
    with pytest.raises(ProtocolError, match=why):
        codec.decode(data, 300, F32, False)


@given(data=hnp.arrays(np.uint8, 4 + 2 * 2 + 300))
def test_random_bytes_decode_to_finite_numbers_or_are_refused(data: NDArray[np.uint8]) -> None:
    try:
        decoded = codec_for("int8").decode(data, 300, F32, False)
    except ProtocolError:
        return
    assert np.isfinite(decoded).all()


def test_data_need_not_be_aligned() -> None:
    codec = codec_for("int8")
    data = codec.encode(normal(300), None)
    shifted = np.concatenate([np.zeros(1, np.uint8), data])[1:]
    found = codec.decode(shifted, 300, F32, False)
    np.testing.assert_array_equal(found, codec.decode(data, 300, F32, False))


def test_unknown_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="'float8'; expected one of float32, float16, int8"):
        codec_for("float8")


def test_a_path_is_no_name_of_a_codec() -> None:
    """What a message names must never be imported."""
    with pytest.raises(SettingsError, match="unknown value dtype"):
        codec_for("caafp_app.protocol.codec:INT8")
