"""One pass over the values of a reply: whether all are finite, and the largest magnitude.

A server asks this once for each vector that it receives and hands the answer on, so that the
sums need not look again.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.vectors.chunks import chunks


def peak_of(vector: NDArray[np.floating[Any]]) -> float:
    """Return ``max |values|`` of a float vector [n], 0 for an empty one.

    Raises ProtocolError if a value is NaN or infinite.
    """
    peak = 0.0
    for part in chunks(vector.size):
        low, high = float(vector[part].min()), float(vector[part].max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ProtocolError(
                "expected finite values, found NaN or infinity: the reply is refused"
            )
        peak = max(peak, high, -low)
    return peak
