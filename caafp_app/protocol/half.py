"""float32 to float16 and back, to the nearest with ties to even, by integer arithmetic on blocks.

``astype`` does the same one value at a time: 70 ms per ten million, 700 ms where most are below
6e-5, as updates of weights are. Here it is 15 to 25 ms, whatever the values.

Adding 2**(e + 13) to a float32 of exponent e >= -14 leaves, as its lowest bits, its distance from
zero in steps of 2**(e - 10): that is a float16's significand, rounded by the adder, carries and
subnormal numbers (e is held at -14) included.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 65504.0
_BLOCK = 1 << 13  # its temporaries stay in the cache

_U16, _U32 = np.uint16, np.uint32
_MAGNITUDE = _U32(0x7FFFFFFF)
_EXPONENT = _U32(0x7F800000)
_LARGEST_BITS = np.float32(LARGEST).view(_U32)
_SMALLEST_NORMAL_BITS = np.float32(2.0**-14).view(_U32)
_THIRTEEN = _U32(13 << 23)


def to_half(values: NDArray[Any]) -> NDArray[np.float16]:
    """Round float [n] to float16 [n]; what is beyond its range, infinity too, becomes +-65504.

    NaN has no place there and becomes some number: refuse it before.
    """
    half = np.empty(values.size, dtype=_U16)
    magnitude, shifted = np.empty(_BLOCK, _U32), np.empty(_BLOCK, _U32)
    for start in range(0, values.size, _BLOCK):
        bits = values[start : start + _BLOCK].astype(np.float32, copy=False).view(_U32)
        out = half[start : start + _BLOCK]
        a, m = magnitude[: bits.size], shifted[: bits.size]
        np.bitwise_and(bits, _MAGNITUDE, out=a)
        np.minimum(a, _LARGEST_BITS, out=a)
        np.bitwise_and(a, _EXPONENT, out=m)
        np.maximum(m, _SMALLEST_NORMAL_BITS, out=m)
        m += _THIRTEEN
        np.add(a.view(np.float32), m.view(np.float32), out=m.view(np.float32))
        np.bitwise_and(m, _U32(0xFFF), out=a)
        m >>= _U32(13)
        m += a  # the exponent field is too large by 126
        np.right_shift(bits, _U32(16), out=a)
        a &= _U32(0x8000)
        m -= _U32(126 << 10)
        m |= a
        out[:] = m
    return half.view(np.float16)


def from_half(half: NDArray[np.float16], dtype: "np.dtype[Any]") -> NDArray[Any]:
    """Widen float16 [n] to float32 or float64 [n], exactly. NaN and infinity become numbers."""
    values = np.empty(half.size, dtype=dtype)
    widened, base = np.empty(_BLOCK, _U32), np.empty(_BLOCK, _U32)
    exponent = np.empty(_BLOCK, _U16)
    for start in range(0, half.size, _BLOCK):
        bits = half[start : start + _BLOCK].view(_U16)
        w, b, e = widened[: bits.size], base[: bits.size], exponent[: bits.size]
        np.bitwise_and(bits, _U16(0x7C00), out=e)
        np.maximum(e, _U16(0x400), out=e)
        b[:] = e
        w[:] = bits
        w &= _U32(0x7FFF)
        w -= b
        w += _U32(0x400)  # the significand, its hidden bit included
        b <<= _U32(13)
        b += _U32(125 << 23)
        w += b
        np.subtract(w.view(np.float32), b.view(np.float32), out=w.view(np.float32))
        b[:] = bits
        b &= _U32(0x8000)
        b <<= _U32(16)
        w |= b
        values[start : start + _BLOCK] = w.view(np.float32)
    return values
