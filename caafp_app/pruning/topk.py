"""Exact selection of the k largest values, equal ones by position.

``numpy.partition`` slows down ten-fold where most values are equal, as a sparse gradient is, and
does not say which of several equal values it kept. A radix selection does neither: the bits of a
float, read as an integer, sort like the float, so four histograms of 16 bits find the k-th largest
value in O(n) whatever the values are.
"""

import numpy as np
from numpy.typing import NDArray

from caafp_app.pruning.segments import MaskUpdateError

_DIGIT_BITS = 16
_DIGITS = 1 << _DIGIT_BITS


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
    threshold, ties = _kth_largest(values.astype(np.float64, copy=False), count)
    chosen = values > threshold
    chosen[np.flatnonzero(values == threshold)[:ties]] = True
    return chosen


def _kth_largest(values: NDArray[np.float64], count: int) -> tuple[float, int]:
    """Return the k-th largest value and how many equal to it are among the k largest."""
    candidates = _sortable(values)
    wanted = count
    for shift in range(64 - _DIGIT_BITS, -1, -_DIGIT_BITS):
        digits = candidates >> shift
        if shift == 64 - _DIGIT_BITS:
            digits += _DIGITS // 2  # the sign makes the first digit run from -2**15
        else:
            digits &= _DIGITS - 1
        histogram = np.bincount(digits, minlength=_DIGITS)
        at_least = np.cumsum(histogram[::-1])[::-1]
        digit = int(np.flatnonzero(at_least >= wanted)[-1])
        wanted -= int(at_least[digit] - histogram[digit])
        candidates = candidates[digits == digit]
        if candidates.min() == candidates.max():  # mostly zeros, say: no need to look further
            break
    return float(_sortable(candidates[:1].view(np.float64)).view(np.float64)[0]), wanted


def _sortable(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Map floats to integers of the same order; the map is its own inverse on the bits."""
    bits = (values + 0.0).view(np.int64)  # adding 0.0 makes -0.0 and 0.0 the same bits
    negative = bits < 0
    if negative.any():
        bits[negative] ^= np.iinfo(np.int64).max
    return bits
