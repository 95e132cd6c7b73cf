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
    values = normal(size).astype(dtype)
    codec = codec_for(name)
    decoded = codec.decode(codec.encode(values, generator()), size, np.dtype(dtype))
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
    codec = codec_for("float32")
    decoded = codec.decode(codec.encode(values), values.size, values.dtype)
    assert decoded.tobytes() == values.tobytes()


@given(
    values=hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(-60_000, 60_000, width=32))
)
def test_float16_error_is_bounded(values: NDArray[np.float32]) -> None:
    codec = codec_for("float16")
    decoded = codec.decode(codec.encode(values), values.size, F32)
    bound = np.maximum(abs(values) * 2.0**-11, 2.0**-25)
    assert (abs(decoded - values.astype(np.float64)) <= bound).all()


@given(
    name=st.sampled_from(["int8"]),
    size=sizes,
    seed=seeds,
    scale=st.sampled_from([1e-30, 1e-8, 1e-3, 1.0, 1e4, 1e30]),
    random=st.booleans(),
)
def test_quantised_error_is_below_a_step(
    name: str, size: int, seed: int, scale: float, random: bool
) -> None:
    codec = codec_for(name)
    values = normal(size, scale, seed)
    decoded = codec.decode(codec.encode(values, generator(seed) if random else None), size, F32)
    step = steps(values, levels=127)
    assert (abs(decoded - values) <= step * (1.0 if random else 0.501)).all()


@pytest.mark.parametrize("name", ["int8"])
def test_blocks_of_very_different_size_keep_their_own_step(name: str) -> None:
    values = np.concatenate([normal(256, 1e-6, 1), normal(256, 10.0, 2), normal(100, 1e-2, 3)])
    codec = codec_for(name)
    decoded = codec.decode(codec.encode(values), values.size, F32)
    error = abs(decoded - values)
    assert 0 < error[:256].max() < 1e-6
    assert error[256:512].max() > 1e-3
    assert error[512:].max() < 1e-2


@pytest.mark.parametrize("name", ["int8"])
@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e5])
def test_stochastic_rounding_is_unbiased(name: str, scale: float) -> None:
    values = np.concatenate(
        [normal(300, scale), np.float32(scale) * np.array([5, -5, 5e-3, 0], "f4")]
    )
    codec, rng, draws = codec_for(name), generator(1), 1500
    step = steps(values, levels=127)
    total = np.zeros(values.size)
    for _ in range(draws):
        total += codec.decode(codec.encode(values, rng), values.size, F32)
    # The mean of `draws` roundings strays by at most half a step over the root of their number.
    deviations = abs(total / draws - values) / (step / 2 / np.sqrt(draws))
    assert deviations.max() < 5
    assert 0.2 < np.sqrt(np.mean(deviations**2)) < 1.0


@given(name=names, size=sizes, seed=seeds)
def test_equal_generators_give_equal_bytes(name: str, size: int, seed: int) -> None:
    values = normal(size)
    codec = codec_for(name)
    one, two = (codec.encode(values, generator(seed)).tobytes() for _ in range(2))
    assert one == two


def test_other_generators_give_other_bytes() -> None:
    codec = codec_for("int8")
    one, two = (codec.encode(normal(100), generator(seed)).tobytes() for seed in (1, 2))
    assert one != two


@pytest.mark.parametrize("name", ["float16", "int8"])
def test_encoding_leaves_the_values_alone(name: str) -> None:
    values = normal(1000)
    before = values.copy()
    codec_for(name).encode(values, generator())
    assert values.tobytes() == before.tobytes()


@pytest.mark.parametrize("name", ["int8"])
def test_the_largest_of_a_block_keeps_its_size(name: str) -> None:
    values = normal(256)
    codec = codec_for(name)
    decoded = codec.decode(codec.encode(values), 256, F32)
    peak = abs(values).argmax()
    assert decoded[peak] == pytest.approx(values[peak], rel=2**-9)


@pytest.mark.parametrize("name", sorted(CODECS.builtin))
def test_zeros_stay_zeros(name: str) -> None:
    codec = codec_for(name)
    for values in (np.zeros(300, np.float32), np.zeros(0, np.float32)):
        assert not codec.decode(codec.encode(values, generator()), values.size, F32).any()


@pytest.mark.parametrize("name", ["int8"])
@pytest.mark.parametrize("value", [1e-45, 1e-40, 2e-38, 1e-36, 1e-8, 1.0, 1e38, 3e38, -3e38])
def test_extreme_magnitudes(name: str, value: float) -> None:
    values = np.array([value, value / 2, 0], np.float32)
    codec = codec_for(name)
    decoded = codec.decode(codec.encode(values, generator()), 3, F32)
    assert np.isfinite(decoded).all()
    assert abs(decoded - values).max() <= max(abs(value) / 3, 1e-36)


@pytest.mark.parametrize("value", [65_504.0, 65_520.0, 1e9, 3e38, 1e300])
def test_float16_saturates(value: float) -> None:
    codec = codec_for("float16")
    if value > 3.4e38:
        with pytest.raises(ProtocolError, match="NaN or infinity"):
            codec.encode(np.array([value]))
    else:
        assert codec.decode(codec.encode(np.array([-value])), 1, F32) == -65_504


@given(name=lossy, size=st.integers(1, 600), at=st.integers(0, 599), bad=st.sampled_from("nif"))
def test_nan_and_infinity_are_not_encoded(name: str, size: int, at: int, bad: str) -> None:
    values = normal(size)
    values[at % size] = {"n": np.nan, "i": np.inf, "f": -np.inf}[bad]
    with pytest.raises(ProtocolError, match=r"NaN|finite"):
        codec_for(name).encode(values, generator())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "dtype"), [("float32", "f4"), ("float32", "f8"), ("float16", "f2")]
)
def test_nan_and_infinity_are_not_decoded(name: str, dtype: str, bad: float) -> None:
    data = np.array([0, 1, bad, 2], dtype)
    target = np.dtype(dtype) if name == "float32" else F32
    with pytest.raises(ProtocolError, match="NaN or infinity"):
        codec_for(name).decode(data, 4, target)


@pytest.mark.parametrize("name", sorted(CODECS.builtin))
@pytest.mark.parametrize("change", ["longer", "shorter", "dtype", "axes", "empty"])
def test_wrong_length_or_dtype_is_refused(name: str, change: str) -> None:
    codec = codec_for(name)
    data = codec.encode(normal(10), generator())
    wrong = {
        "longer": np.concatenate([data, data[:1]]),
        "shorter": data[:-1],
        "dtype": data.astype(np.int16),
        "axes": data[None],
        "empty": data[:0],
    }[change]
    with pytest.raises(ProtocolError, match="values: expected"):
        codec.decode(wrong, 10, F32)


@pytest.mark.parametrize("name", ["int8"])
@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, 3.3e38])
def test_impossible_scale_is_refused(name: str, scale: float) -> None:
    codec = codec_for(name)
    data = codec.encode(normal(300))
    data[:4] = np.array([scale], np.float32).view(np.uint8)
    with pytest.raises(ProtocolError, match="scales must be finite"):
        codec.decode(data, 300, F32)


@pytest.mark.parametrize("name", ["int8"])
@pytest.mark.parametrize("share", [np.nan, np.inf, -0.5, 1.001])
def test_impossible_share_is_refused(name: str, share: float) -> None:
    codec = codec_for(name)
    data = codec.encode(normal(300))
    data[6:8] = np.array([share], np.float16).view(np.uint8)
    with pytest.raises(ProtocolError, match=r"within \[0, 1\]"):
        codec.decode(data, 300, F32)


@given(data=hnp.arrays(np.uint8, 4 + 2 * 2 + 300), name=st.just("int8"))
def test_random_bytes_decode_to_finite_numbers_or_are_refused(
    data: NDArray[np.uint8], name: str
) -> None:
    try:
        decoded = codec_for(name).decode(data, 300, F32)
    except ProtocolError:
        return
    assert np.isfinite(decoded).all()


def test_data_need_not_be_aligned() -> None:
    codec = codec_for("int8")
    values = normal(300)
    data = codec.encode(values)
    shifted = np.concatenate([np.zeros(1, np.uint8), data])[1:]
    np.testing.assert_array_equal(codec.decode(shifted, 300, F32), codec.decode(data, 300, F32))


def test_unknown_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="'float8'; expected one of float32, float16, int8"):
        codec_for("float8")


def test_a_path_is_no_name_of_a_codec() -> None:
    """What a message names must never be imported."""
    with pytest.raises(SettingsError, match="unknown value dtype"):
        codec_for("caafp_app.protocol.codec:INT8")
