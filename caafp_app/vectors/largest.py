"""The k largest values of a vector, exactly; among equal ones those of lower index.

``numpy.partition`` does the work, on a small part of the values: it would copy the whole vector,
takes ten times as long where most values are equal, as in a sparse gradient, and does not say
which of equal values it took. So a sample first brackets the k-th largest value, as Floyd and
Rivest's SELECT does, and only the values inside of the bracket are partitioned.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import MaskUpdateError, ProtocolError
from caafp_app.vectors.chunks import chunks

_SAMPLE = 8192
_MARGIN = 2 * math.isqrt(_SAMPLE)
"""Ranks in the sample on each side of the wanted one: four standard deviations and more."""


def largest(values: NDArray[np.floating[Any]], count: int) -> NDArray[np.bool_]:
    """Mark the ``count`` largest values [n]; among equal ones those of lower index.

    Infinities are allowed. Raises MaskUpdateError if ``count`` is outside [0, n] or a value is NaN.
    """
    if not 0 <= count <= values.size:
        raise MaskUpdateError(
            f"expected to select between 0 and {values.size} values, found a count of {count}"
        )
    if values.size and np.isnan(values.max()):
        raise MaskUpdateError("expected numbers to select by, found NaN among them")
    if count in (0, values.size):
        return np.full(values.size, count > 0)
    return _marked(values, count)


def largest_magnitudes(values: NDArray[np.floating[Any]], count: int) -> NDArray[np.intp]:
    """Choose the ``count`` largest of ``|values|`` as float32; among equal ones the first.

    Return ascending positions [m]; zeros are never chosen, so that m may be less than ``count``.
    Raises ProtocolError if a value is NaN, or infinite as float32.
    """
    with np.errstate(over="ignore"):
        magnitude = np.abs(values.astype(np.float32, copy=False))
    if not np.isfinite(magnitude.max(initial=0)):
        raise ProtocolError(
            "expected finite numbers to choose the largest of, found NaN or infinity"
        )
    if count <= 0:
        return np.empty(0, dtype=np.intp)
    bits = magnitude.view(np.uint32)  # zero where the value is, and counted faster
    if np.count_nonzero(bits) <= count:
        return np.flatnonzero(bits)
    return np.flatnonzero(_marked(magnitude, count))


def kth_largest(values: NDArray[np.floating[Any]], count: int) -> tuple[float, int]:
    """Return the k-th largest value, and how many equal to it are among the k largest."""
    low, high = _bracket(values, count)
    rank, inside = count, []
    at_high = 0
    for part in chunks(values.size):
        block = values[part]
        below_high = block < high
        equal = int(np.count_nonzero(block == high))
        rank -= block.size - int(np.count_nonzero(below_high)) - equal
        at_high += equal
        below_high &= block > low
        inside.append(block[below_high])
    between = sum(block.size for block in inside)
    # `rank` now counts from `high` downwards.
    if 0 < rank <= at_high:
        return float(high) + 0.0, rank  # -0.0 becomes 0.0
    rank -= at_high
    if 0 < rank <= between:
        return _partitioned(np.concatenate(inside), rank)
    rank -= between
    if 0 < rank <= np.count_nonzero(values == low):
        return float(low) + 0.0, rank
    return _partitioned(values, count)  # the sample was not like the rest


def _bracket(values: NDArray[np.floating[Any]], count: int) -> tuple[Any, Any]:
    """Return two values that most likely enclose the k-th largest; infinities if n is small."""
    low, high = -values.dtype.type(np.inf), values.dtype.type(np.inf)
    if values.size > 4 * _SAMPLE:
        sample = np.sort(values[:: values.size // _SAMPLE | 1])
        place = (values.size - count) * sample.size // values.size
        if place >= _MARGIN:
            low = sample[place - _MARGIN]
        if place + _MARGIN < sample.size:
            high = sample[place + _MARGIN]
    return low, high


def _partitioned(values: NDArray[np.floating[Any]], count: int) -> tuple[float, int]:
    place = values.size - count
    parted = np.partition(values, place)
    threshold = parted[place]
    return float(threshold) + 0.0, count - int(np.count_nonzero(parted[place:] > threshold))


def _marked(values: NDArray[np.floating[Any]], count: int) -> NDArray[np.bool_]:
    """Mark the ``count`` largest, in [1, n], of values without NaN."""
    threshold, ties = kth_largest(values, count)
    chosen = values > threshold
    for part in chunks(values.size):
        if not ties:
            break
        equal = np.flatnonzero(values[part] == threshold)[:ties]
        chosen[part][equal] = True
        ties -= equal.size
    return chosen
