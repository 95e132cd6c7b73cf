"""One pass over the values of a reply: whether all are finite, the largest magnitude, the norm.

A server asks this once for each vector that it receives and hands the answer on, so that the
sums need not look again.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.vectors.chunks import chunks


class Scan(NamedTuple):
    """What `scan` found: ``max |values|`` of each vector, 0 for an empty one, and their joint norm.

    The Euclidean norm is infinity if float32 cannot hold the squares, which it can up to values of
    about 1e19.
    """

    peaks: tuple[float, ...]
    norm: float

    @property
    def peak(self) -> float:
        """``max |values|`` over all vectors."""
        return max(self.peaks, default=0.0)


def scan(*vectors: NDArray[np.floating[Any]]) -> Scan:
    """Look at all values of float vectors, such as the parts of one update, once.

    Squares are summed in the vectors' own precision within a chunk: a conversion would take longer
    than all the rest, and a bound needs no more digits.

    Raises ProtocolError if a value is NaN or infinite.
    """
    peaks, squares = [], 0.0
    for vector in vectors:
        peak = 0.0
        for part in chunks(vector.size):
            block = vector[part]
            peak = max(peak, _peak(block))
            with np.errstate(over="ignore"):
                squares += float(block @ block)
        peaks.append(peak)
    return Scan(tuple(peaks), math.sqrt(squares))


def peak_of(vector: NDArray[np.floating[Any]]) -> float:
    """Return ``max |values|`` of a float vector [n], 0 for an empty one; refuse NaN."""
    return max((_peak(vector[part]) for part in chunks(vector.size)), default=0.0)


def _peak(block: NDArray[np.floating[Any]]) -> float:
    low, high = float(block.min()), float(block.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ProtocolError("expected finite values, found NaN or infinity: the reply is refused")
    return max(high, -low, 0.0)
