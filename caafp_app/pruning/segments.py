"""The layers of a model as slices of one flat vector [P], in order and without gaps.

*Packed* vectors hold the active positions of a mask only, in flat order: length A = ``mask.sum()``.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def segments_of(sizes: Sequence[int] | NDArray[np.int64]) -> tuple[slice, ...]:
    """Return the slices of layers with these sizes, one after the other from 0."""
    ends = [0]
    for size in sizes:
        ends.append(ends[-1] + int(size))
    return tuple(slice(start, stop) for start, stop in pairwise(ends))


def sizes_of(segments: Sequence[slice]) -> NDArray[np.int64]:
    """Return the number of weights of each layer, int64 of shape [layers]."""
    return np.array([segment.stop - segment.start for segment in segments], dtype=np.int64)


def active_counts(mask: NDArray[np.bool_], segments: Sequence[slice]) -> NDArray[np.int64]:
    """Return the number of active weights of each layer, int64 of shape [layers]."""
    return np.array([np.count_nonzero(mask[segment]) for segment in segments], dtype=np.int64)


def packed_segments(mask: NDArray[np.bool_], segments: Sequence[slice]) -> tuple[slice, ...]:
    """Return each layer's slice of a vector packed by `mask` [P]."""
    return segments_of(active_counts(mask, segments))
