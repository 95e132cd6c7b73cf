"""Exact selection of the k largest values, equal ones by position.

``numpy.partition`` slows down ten-fold where most values are equal, as a sparse gradient is, and
does not say which of several equal values it kept. A radix selection does neither: the bits of a
float, read as an integer, sort like the float, so four histograms of 16 bits find the k-th largest
value in O(n) whatever the values are.
"""

import numpy as np
from numpy.typing import NDArray

from caafp_app.pruning.chunks import chunks
from caafp_app.pruning.segments import MaskUpdateError

_DIGIT_BITS = 16
_DIGITS = 1 << _DIGIT_BITS
_FIRST = 64 - _DIGIT_BITS


def largest(values: NDArray[np.floating], count: int) -> NDArray[np.bool_]:
    """Mark the ``count`` largest values; among equal ones those of lower index.

    Parameters
    ----------
    values : NDArray[np.floating]
        Shape [n], no NaN; infinities are allowed.
    count : int
        How many to mark, in [0, n].

    Returns
    -------
    NDArray[np.bool_]
        Shape [n], exactly ``count`` of them true.

    Raises
    ------
    MaskUpdateError
        If ``count`` is outside [0, n] or a value is NaN.
    """
    if not 0 <= count <= values.size:
        raise MaskUpdateError(
            f"expected to select between 0 and {values.size} values, found a count of {count}"
        )
    if values.size and np.isnan(values.max()):
        raise MaskUpdateError("expected numbers to select by, found NaN among them")
    if count in (0, values.size):
        return np.full(values.size, count > 0)
    threshold, ties = kth_largest(values, count)
    chosen = values > threshold
    for part in chunks(values.size):
        if not ties:
            break
        equal = np.flatnonzero(values[part] == threshold)[:ties]
        chosen[part][equal] = True
        ties -= equal.size
    return chosen


def kth_largest(values: NDArray[np.floating], count: int) -> tuple[float, int]:
    """Return the k-th largest value and how many equal to it are among the k largest.

    Parameters
    ----------
    values : NDArray[np.floating]
        Shape [n], no NaN.
    count : int
        k, in [1, n].
    """
    digit, wanted = _leading_digit(values, count)
    # A copy of those alone that share the first digit: nothing here is as long as `values`.
    parts = []
    for part in chunks(values.size):
        keys = _sortable(values[part])
        parts.append(keys[keys >> _FIRST == digit])
    candidates = np.concatenate(parts)
    for shift in range(_FIRST - _DIGIT_BITS, -1, -_DIGIT_BITS):
        if candidates.min() == candidates.max():  # mostly zeros, say: no need to look further
            break
        digits = (candidates >> shift) & (_DIGITS - 1)
        chosen, wanted = _digit_of(np.bincount(digits, minlength=_DIGITS), wanted)
        candidates = candidates[digits == chosen]
    return float(_sortable(candidates[:1].view(np.float64)).view(np.float64)[0]), wanted


def _leading_digit(values: NDArray[np.floating], count: int) -> tuple[int, int]:
    """Return the first digit of the k-th largest value, and its rank among those that share it."""
    histogram = np.zeros(_DIGITS, dtype=np.int64)
    for part in chunks(values.size):
        digits = _sortable(values[part]) >> _FIRST
        digits += _DIGITS // 2  # the sign makes the first digit run from -2**15
        histogram += np.bincount(digits, minlength=_DIGITS)
    digit, rank = _digit_of(histogram, count)
    return digit - _DIGITS // 2, rank


def _digit_of(histogram: NDArray[np.int64], wanted: int) -> tuple[int, int]:
    """Return the digit that the k-th largest value has, and its rank among those that share it."""
    at_least = np.cumsum(histogram[::-1])[::-1]
    digit = int(np.flatnonzero(at_least >= wanted)[-1])
    return digit, wanted - int(at_least[digit] - histogram[digit])


def _sortable(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Map floats to integers of the same order, a copy; the map is its own inverse on the bits."""
    # Adding 0.0 makes -0.0 and 0.0 the same bits.
    bits: NDArray[np.int64] = np.add(values, 0.0, dtype=np.float64).view(np.int64)
    negative = bits < 0
    if negative.any():
        bits[negative] ^= np.iinfo(np.int64).max
    return bits
