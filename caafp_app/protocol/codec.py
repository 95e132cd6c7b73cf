"""How a flat vector of floats becomes an array on the wire, and back.

Each codec states its byte law. Decoding trusts nothing: dtype, length and scales are checked
before a value is used. Encoding is deterministic given its generator: two runs send the same bytes.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError, SettingsError

BLOCK = 256
_CHUNK = 64 * BLOCK
_FLOAT16_MAX = 65504.0


class Codec(ABC):
    """A pair of functions between float [n] and what travels."""

    name: str

    @abstractmethod
    def nbytes(self, size: int) -> int:
        """Bytes that `size` values take, without the array's own header."""

    @abstractmethod
    def encode(self, values: NDArray[Any], rng: np.random.Generator | None = None) -> NDArray[Any]:
        """Encode a float vector; `rng` decides stochastic rounding where the codec rounds."""

    @abstractmethod
    def decode(self, data: NDArray[Any], size: int, dtype: "np.dtype[Any]") -> NDArray[Any]:
        """Decode to a float vector [size] of `dtype`.

        Raises
        ------
        ProtocolError
            If `data` cannot be the encoding of `size` finite values.
        """


class ExactCodec(Codec):
    """Values as they are. Bytes: 4 n (8 n for float64 models)."""

    name = "float32"

    def nbytes(self, size: int) -> int:
        """Return 4 n."""
        return 4 * size

    def encode(self, values: NDArray[Any], rng: np.random.Generator | None = None) -> NDArray[Any]:
        """Return the values."""
        return values

    def decode(self, data: NDArray[Any], size: int, dtype: "np.dtype[Any]") -> NDArray[Any]:
        """Return the values."""
        _expect(data, dtype, size)
        return _finite(data)


class Float16Codec(Codec):
    """Half precision, nearest. Bytes: 2 n. Relative error at most 2**-11 above 6e-5."""

    name = "float16"

    def nbytes(self, size: int) -> int:
        """Return 2 n."""
        return 2 * size

    def encode(self, values: NDArray[Any], rng: np.random.Generator | None = None) -> NDArray[Any]:
        """Round to float16; what is beyond its range saturates."""
        half: NDArray[Any] = np.clip(values, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)
        return half

    def decode(self, data: NDArray[Any], size: int, dtype: "np.dtype[Any]") -> NDArray[Any]:
        """Widen to `dtype`."""
        _expect(data, np.dtype(np.float16), size)
        widened: NDArray[Any] = _finite(data).astype(dtype)
        return widened


class Int8Codec(Codec):
    """8 bits a value, in blocks of 256 that share a scale, rounded stochastically.

    Bytes: n + 2 ceil(n / 256) + 4. The scales are float16 shares of one float32 scale of the
    array, so that updates of 1e-7 keep their precision as well as weights of 10. With a generator
    the rounding is unbiased: E[decode(encode(x))] = x; without one it is to the nearest. The error
    is at most one step, max|block| / 127 (half a step without a generator).
    """

    name = "int8"
    levels = 127

    def nbytes(self, size: int) -> int:
        """Return n + 2 ceil(n / 256) + 4."""
        return size + 2 * _blocks(size) + 4

    def encode(self, values: NDArray[Any], rng: np.random.Generator | None = None) -> NDArray[Any]:
        """Return uint8 [nbytes(n)]: array scale, block scales, then the values."""
        return _join(*_quantise(values, self.levels, rng))

    def decode(self, data: NDArray[Any], size: int, dtype: "np.dtype[Any]") -> NDArray[Any]:
        """Multiply each value by its block's scale."""
        _expect(data, np.dtype(np.uint8), self.nbytes(size))
        steps, codes = _split(data, size, self.levels)
        return _dequantise(steps, codes.view(np.int8)[:size], dtype)


class Int4Codec(Int8Codec):
    """4 bits a value, two to a byte, otherwise as int8.

    Bytes: ceil(n / 2) + 2 ceil(n / 256) + 4. Steps are 18 times those of int8: use it for updates
    with error feedback, not for weights.
    """

    name = "int4"
    levels = 7

    def nbytes(self, size: int) -> int:
        """Return ceil(n / 2) + 2 ceil(n / 256) + 4."""
        return -(-size // 2) + 2 * _blocks(size) + 4

    def encode(self, values: NDArray[Any], rng: np.random.Generator | None = None) -> NDArray[Any]:
        """Return uint8 [nbytes(n)]: array scale, block scales, then pairs (low half first)."""
        head, shares, codes = _quantise(values, self.levels, rng)
        halves = np.zeros(codes.size + codes.size % 2, dtype=np.uint8)
        halves[: codes.size] = codes + 8
        return _join(head, shares, halves[0::2] | (halves[1::2] << 4))

    def decode(self, data: NDArray[Any], size: int, dtype: "np.dtype[Any]") -> NDArray[Any]:
        """Unpack the pairs and multiply by the scales."""
        _expect(data, np.dtype(np.uint8), self.nbytes(size))
        steps, pairs = _split(data, size, self.levels)
        codes = np.empty(2 * pairs.size, dtype=np.int8)
        codes[0::2] = pairs & 15
        codes[1::2] = pairs >> 4
        return _dequantise(steps, codes[:size] - np.int8(8), dtype)


CODECS: dict[str, Codec] = {
    codec.name: codec for codec in (ExactCodec(), Float16Codec(), Int8Codec(), Int4Codec())
}


def codec_for(name: str) -> Codec:
    """Look a codec up by the name that settings and messages use.

    Raises
    ------
    SettingsError
        If there is none of that name.
    """
    try:
        return CODECS[name]
    except KeyError:
        raise SettingsError(
            f"unknown value dtype {name!r}; expected one of {', '.join(CODECS)}"
        ) from None


def _blocks(size: int) -> int:
    return -(-size // BLOCK)


def _quantise(
    values: NDArray[Any], levels: int, rng: np.random.Generator | None
) -> tuple[NDArray[np.float32], NDArray[np.float16], NDArray[np.int8]]:
    """Return the array's scale [1], each block's share of it [blocks], and the codes [n]."""
    size = values.size
    blocks = _blocks(size)
    starts = np.arange(blocks) * BLOCK
    source = np.asarray(values, dtype=np.float32)
    peaks = np.zeros(blocks, dtype=np.float32)
    if size:
        np.maximum(
            np.maximum.reduceat(source, starts), -np.minimum.reduceat(source, starts), out=peaks
        )
    scale = np.float32(peaks.max(initial=0.0))
    shares = (peaks / scale if scale > 0 else peaks).astype(np.float16)
    codes = np.empty(size, dtype=np.int8)
    # A share that rounds to zero is of a block 1e-8 times smaller than the largest: sent as zeros.
    steps = shares.astype(np.float32) * (scale / np.float32(levels))
    inverse = np.divide(1.0, steps, out=np.zeros_like(steps), where=steps > 0)
    for start in range(0, size, _CHUNK):  # stays in the cache
        part = source[start : start + _CHUNK]
        first = start // BLOCK
        scaled = part * np.repeat(inverse[first : first + _blocks(part.size)], BLOCK)[: part.size]
        if rng is None:
            np.rint(scaled, out=scaled)
        else:
            scaled += rng.random(part.size, dtype=np.float32)
            np.floor(scaled, out=scaled)
        # The float16 share may have been rounded down: the block's peak then lies above the levels.
        np.clip(scaled, -levels, levels, out=scaled)
        codes[start : start + _CHUNK] = scaled
    return np.array([scale], dtype=np.float32), shares, codes


def _join(*parts: NDArray[Any]) -> NDArray[np.uint8]:
    return np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts])


def _split(
    data: NDArray[np.uint8], size: int, levels: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return each block's step [blocks] and the rest of the bytes."""
    blocks = _blocks(size)
    scale = data[:4].copy().view(np.float32)[0]
    shares = data[4 : 4 + 2 * blocks].copy().view(np.float16).astype(np.float32)
    if not (np.isfinite(scale) and scale >= 0 and np.all((shares >= 0) & (shares <= 1))):
        raise ProtocolError("quantised values: scales must be finite and shares within [0, 1]")
    return shares * (scale / np.float32(levels)), data[4 + 2 * blocks :]


def _dequantise(
    steps: NDArray[np.float32], codes: NDArray[np.int8], dtype: "np.dtype[Any]"
) -> NDArray[Any]:
    values = codes.astype(dtype)
    for start in range(0, values.size, _CHUNK):
        part = values[start : start + _CHUNK]
        first = start // BLOCK
        part *= np.repeat(steps[first : first + _blocks(part.size)], BLOCK)[: part.size]
    return values


def _expect(data: NDArray[Any], dtype: "np.dtype[Any]", size: int) -> None:
    if data.dtype != dtype or data.shape != (size,):
        raise ProtocolError(
            f"values: expected {dtype} [{size}], found {data.dtype} {list(data.shape)}"
        )


def _finite(data: NDArray[Any]) -> NDArray[Any]:
    if not np.isfinite(data).all():
        raise ProtocolError("values: found NaN or infinity where finite numbers were expected")
    return data
