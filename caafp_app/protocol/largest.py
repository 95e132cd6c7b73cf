"""The positions of the k largest magnitudes, in O(n) whatever the values are.

``numpy.partition`` is twice as slow, ten times slower still where many values are equal, and does
not say which of equal values it took. The bits of a positive float, read as an integer, sort like
the float: two histograms of 16 bits each find the k-th largest.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError

_INFINITY = 0x7F800000
_CHUNK = 1 << 17


def largest_magnitudes(values: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Choose the `count` largest of ``|values|`` as float32, of equal ones the first.

    Parameters
    ----------
    values : ndarray of float [n]
        Finite.
    count : int
        How many, at most: zeros are never chosen.

    Returns
    -------
    ndarray of intp [m]
        Ascending positions, ``m = min(count, number of values that are not zero)``.

    Raises
    ------
    ProtocolError
        If a value is NaN, or infinite as float32.
    """
    with np.errstate(over="ignore"):
        magnitude = np.abs(values.astype(np.float32, copy=False))
    keys = magnitude.view(np.uint32)
    if keys.max(initial=0) >= _INFINITY:
        raise ProtocolError(
            "expected finite numbers to choose the largest of, found NaN or infinity"
        )
    if count <= 0:
        return np.empty(0, dtype=np.intp)
    if np.count_nonzero(keys) <= count:
        return np.flatnonzero(keys)
    threshold, ties = _kth_largest(keys, count)
    chosen = keys > threshold
    chosen[np.flatnonzero(keys == threshold)[:ties]] = True
    return np.flatnonzero(chosen)


def _kth_largest(keys: NDArray[np.uint32], count: int) -> tuple[np.uint32, int]:
    """Return the `count`-th largest key, and how many keys equal to it are among the largest."""
    upper, count = _digit(_histogram(keys, 16), count)
    candidates = keys[np.flatnonzero((keys >> 16) == upper)] & np.uint32(0xFFFF)
    lower, count = _digit(_histogram(candidates, 0), count)
    return np.uint32(upper << 16 | lower), count


def _histogram(keys: NDArray[np.uint32], shift: int) -> NDArray[np.intp]:
    """Count the keys by 16 of their bits [65536]."""
    histogram = np.zeros(1 << 16, dtype=np.intp)
    for start in range(0, keys.size, _CHUNK):  # bincount makes 64-bit copies
        histogram += np.bincount(keys[start : start + _CHUNK] >> shift, minlength=1 << 16)
    return histogram


def _digit(histogram: NDArray[np.intp], count: int) -> tuple[int, int]:
    """Return the digit of the `count`-th largest, and its rank among those of that digit."""
    at_least = np.cumsum(histogram[::-1])[::-1]
    digit = int(np.flatnonzero(at_least >= count)[-1])
    return digit, count - int(at_least[digit] - histogram[digit])
