"""The codec ``int8``: 8 bits a value, in blocks of 256 that share a scale, rounded stochastically.

Bytes: n + 2 ceil(n / 256) + 4, uint8: the array's scale as float32, each block's share of it as
float16, then the values in steps of their block. So updates of 1e-7 keep their precision as well as
weights of 10. A step is max|block| / 127, in blocks 1e-7 times smaller than the largest that of
such a block. The error is below one step; with a generator it is 0 on average,
E[decode(encode(x))] = x; without one it is at most half a step.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.codec import Codec, expect
from caafp_app.protocol.half import from_half, to_half

BLOCK = 256
MAX_SCALE = np.float32(3e38)
"""Largest magnitude; beyond it a decoded value might be infinite."""

_LEVELS = 127
_CHUNK = 256 * BLOCK  # stays in the cache


def _encode(values: NDArray[Any], rng: np.random.Generator | None) -> NDArray[Any]:
    """Round each value to a step of its block.

    Raises ProtocolError if a value is NaN, infinite, or beyond 3e38.
    """
    with np.errstate(over="ignore"):
        source = values.astype(np.float32, copy=False)
    peaks = np.zeros(_blocks(source.size), dtype=np.float32)
    if source.size:
        starts = np.arange(peaks.size) * BLOCK
        peaks = np.maximum(
            np.maximum.reduceat(source, starts), -np.minimum.reduceat(source, starts)
        )
    scale = peaks.max(initial=np.float32(0))
    if not scale <= MAX_SCALE:
        raise ProtocolError(f"cannot quantise: expected finite values up to 3e38, found {scale}")
    shares, codes = _shares(peaks, scale), np.empty(source.size, dtype=np.int8)
    steps = _steps(shares, scale)
    inverse = np.divide(1, steps, out=np.zeros_like(steps), where=steps > 0)
    buffer, noise = np.empty((2, min(source.size, _CHUNK)), dtype=np.float32)
    for start in range(0, source.size, _CHUNK):
        part = source[start : start + _CHUNK]
        scaled = np.multiply(part, _by_value(inverse, start, part.size), out=buffer[: part.size])
        if rng is None:
            np.rint(scaled, out=scaled)
        else:
            scaled += rng.random(dtype=np.float32, out=noise[: part.size])
            np.floor(scaled, out=scaled)
        np.clip(scaled, -_LEVELS, _LEVELS, out=scaled)  # float32's own rounding, one in a million
        codes[start : start + _CHUNK] = scaled
    return np.concatenate([part.view(np.uint8) for part in (np.array([scale]), shares, codes)])


def _decode(data: NDArray[Any], size: int, dtype: "np.dtype[Any]", scanned: bool) -> NDArray[Any]:
    """Multiply each value by its block's step."""
    expect(data, np.dtype(np.uint8), size + 2 * _blocks(size) + 4)
    scales, packed, codes = np.split(data, [4, 4 + 2 * _blocks(size)])
    # Copied, because what comes off the wire need not be aligned.
    scale, shares = scales.copy().view(np.float32)[0], packed.copy().view(np.float16)
    if not (0 <= scale <= MAX_SCALE and np.all((shares >= 0) & (shares <= 1))):
        raise ProtocolError("quantised values: scales must be finite and shares within [0, 1]")
    steps = _steps(shares, scale)
    values = np.empty(size, dtype=dtype)
    for start in range(0, size, _CHUNK):
        part = values[start : start + _CHUNK]
        part[:] = codes[start : start + _CHUNK].view(np.int8)
        part *= _by_value(steps, start, part.size)
    return values


def _blocks(size: int) -> int:
    return -(-size // BLOCK)


def _shares(peaks: NDArray[np.float32], scale: np.float32) -> NDArray[np.float16]:
    """Round each block's peak up to a share, so that the peak lies within the levels.

    Only then is stochastic rounding unbiased there too.
    """
    ratio = peaks / scale if scale > 0 else peaks
    shares = to_half(ratio)
    low = from_half(shares, ratio.dtype) < ratio
    shares[low] = np.nextafter(shares[low], np.float16(np.inf))
    return shares


def _steps(shares: NDArray[np.float16], scale: np.float32) -> NDArray[np.float32]:
    """Return each block's step; zero if too small for float32."""
    steps: NDArray[np.float32] = from_half(shares, np.dtype(np.float32))
    steps *= scale / np.float32(_LEVELS)
    steps[steps < np.finfo(np.float32).tiny] = 0
    return steps


def _by_value(of_block: NDArray[np.float32], start: int, size: int) -> NDArray[np.float32]:
    """Repeat the number of each block for each of its values, from `start`, a block's first."""
    first = start // BLOCK
    return np.repeat(of_block[first : first + _blocks(size)], BLOCK)[:size]


INT8 = Codec(_encode, _decode)
