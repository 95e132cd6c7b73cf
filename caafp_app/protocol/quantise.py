"""Numbers as small integers, in blocks of 256 that share a scale.

The block scales are float16 shares of one float32 scale of the whole array, so that updates of
1e-7 keep their precision as well as weights of 10. A share is rounded up, so that the largest of
its block lies within the levels: only then is stochastic rounding unbiased there too.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.half import from_half, to_half

BLOCK = 256
MAX_SCALE = np.float32(3e38)
"""Largest magnitude; beyond it a decoded value might be infinite."""

_CHUNK = 256 * BLOCK  # stays in the cache


@dataclass(frozen=True)
class Quantised:
    """What `quantise` makes of float [n].

    Attributes
    ----------
    scale : ndarray of float32 [1]
        Largest magnitude of the array.
    shares : ndarray of float16 [ceil(n / 256)]
        That of each block, as a share of `scale`.
    codes : ndarray of int8 [n]
        Each value in steps of its block, from -levels to levels.
    """

    scale: NDArray[np.float32]
    shares: NDArray[np.float16]
    codes: NDArray[np.int8]

    def steps(self, levels: int) -> NDArray[np.float32]:
        """Return what one unit of `codes` stands for, by block; zero if too small for float32."""
        shares: NDArray[np.float32] = from_half(self.shares, np.dtype(np.float32))
        steps = shares * (self.scale / np.float32(levels))
        steps[steps < np.finfo(np.float32).tiny] = 0
        return steps


def blocks(size: int) -> int:
    """Return how many blocks `size` values make."""
    return -(-size // BLOCK)


def quantise(values: NDArray[Any], levels: int, rng: np.random.Generator | None) -> Quantised:
    """Round each value, float [n], to a multiple of its block's step.

    `levels` are the steps from zero to the largest of a block. `rng` rounds up with the probability
    of the distance from below; without it, to the nearest.

    Raises ProtocolError if a value is NaN, infinite, or beyond 3e38.
    """
    with np.errstate(over="ignore"):
        source = values.astype(np.float32, copy=False)
    peaks = np.zeros(blocks(source.size), dtype=np.float32)
    if source.size:
        starts = np.arange(peaks.size) * BLOCK
        peaks = np.maximum(
            np.maximum.reduceat(source, starts), -np.minimum.reduceat(source, starts)
        )
    scale = peaks.max(initial=np.float32(0))
    if not scale <= MAX_SCALE:
        raise ProtocolError(f"cannot quantise: expected finite values up to 3e38, found {scale}")
    made = Quantised(np.array([scale]), _shares(peaks, scale), np.empty(source.size, dtype=np.int8))
    steps = made.steps(levels)
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
        np.clip(scaled, -levels, levels, out=scaled)  # float32's own rounding, one in a million
        made.codes[start : start + _CHUNK] = scaled
    return made


def dequantise(quantised: Quantised, levels: int, dtype: "np.dtype[Any]") -> NDArray[Any]:
    """Multiply each code by its block's step: float [n] of `dtype`.

    Raises ProtocolError if a scale is not finite, or a share not within [0, 1].
    """
    scale, shares = quantised.scale[0], quantised.shares
    if not (0 <= scale <= MAX_SCALE and np.all((shares >= 0) & (shares <= 1))):
        raise ProtocolError("quantised values: scales must be finite and shares within [0, 1]")
    steps = quantised.steps(levels)
    values = np.empty(quantised.codes.size, dtype=dtype)
    for start in range(0, values.size, _CHUNK):
        part = values[start : start + _CHUNK]
        part[:] = quantised.codes[start : start + _CHUNK]
        part *= _by_value(steps, start, part.size)
    return values


def _shares(peaks: NDArray[np.float32], scale: np.float32) -> NDArray[np.float16]:
    ratio = peaks / scale if scale > 0 else peaks
    shares = to_half(ratio)
    low = from_half(shares, ratio.dtype) < ratio
    shares[low] = np.nextafter(shares[low], np.float16(np.inf))
    return shares


def _by_value(of_block: NDArray[np.float32], start: int, size: int) -> NDArray[np.float32]:
    """Repeat the number of each block for each of its values, from `start`, a block's first."""
    first = start // BLOCK
    return np.repeat(of_block[first : first + blocks(size)], BLOCK)[:size]
