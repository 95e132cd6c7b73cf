"""Norms of vectors and weights of clients, and how they are cut."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.vectors.chunks import chunks


def norm_of(*vectors: NDArray[np.floating]) -> float:
    """Return the Euclidean norm of vectors put together; NaN or infinity if they hold one.

    Squares are summed in float64, so that no float32 value overflows.
    """
    total = 0.0
    for vector in vectors:
        for part in chunks(vector.size):
            block = vector[part].astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                total += float(block @ block)
    return math.sqrt(total) if total == total else math.nan


def shrink(norm: float, longest: float) -> float:
    """Return the factor in (0, 1] that makes a vector of this norm no longer than `longest`."""
    return 1.0 if norm <= longest else longest / norm


def scaled(vector: NDArray[Any], factor: float) -> NDArray[Any]:
    """Return ``factor * vector`` in the vector's dtype; the vector itself for a factor of 1."""
    return vector if factor == 1.0 else (vector * factor).astype(vector.dtype, copy=False)


def capped(weights: Sequence[float]) -> list[float]:
    """Cut weights that are known together at their median; zeros do not count in it.

    For means over clusters or clients whose counts are known beforehand. No directions are compared
    in them, so nobody counts more than the median.
    """
    usual = middle(weights)
    return [min(weight, usual) if usual else weight for weight in weights]


def middle(values: Iterable[float]) -> float:
    """Return the lower median of the positive values; 0 without any.

    Zeros are of clients that had nothing to learn. The lower one: of two, one liar cannot raise it.
    """
    positive = [value for value in values if value > 0]
    return statistics.median_low(positive) if positive else 0.0
