"""Ascending positions as bytes: the gaps between them, seven bits to a byte (LEB128).

Each byte holds seven bits of a gap, lowest first; its high bit says that more of the same gap
follow. Where one in n positions is named, a gap takes one byte in all but exp(-128 / n) of cases.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError

_MAX_BYTES = 5


def encode_gaps(positions: NDArray[Any]) -> NDArray[np.uint8]:
    """Encode strictly ascending positions [m] below 2**35; the inverse of `decode_gaps`.

    A gap is the number of positions skipped since the last one. Bytes: m, and one more for each
    gap of at least 2**7, 2**14, ...
    """
    gaps = np.diff(positions, prepend=-1) - 1
    largest = int(gaps.max(initial=0))
    if largest < 128:
        return gaps.astype(np.uint8)
    groups = max(-(-largest.bit_length() // 7), 1)
    lengths = np.ones(gaps.size, dtype=np.int64)
    for group in range(1, groups):
        lengths += gaps >= 1 << (7 * group)
    ends = np.cumsum(lengths)
    coded = np.empty(int(ends[-1]), dtype=np.uint8)
    starts = ends - lengths
    coded[starts] = gaps & 127
    for group in range(1, groups):
        longer = np.flatnonzero(lengths > group)
        places = starts[longer] + group
        coded[places - 1] |= 128
        coded[places] = (gaps[longer] >> (7 * group)) & 127
    return coded


def decode_gaps(data: NDArray[Any], size: int, count: int | None = None) -> NDArray[np.int64]:
    """Decode strictly ascending positions below `size`, from bytes of unknown origin.

    Raises ProtocolError if the bytes are cut off, name another number of positions than `count`, or
    one that is not below `size`.
    """
    if data.dtype != np.uint8 or data.ndim != 1:
        raise ProtocolError(f"positions: expected uint8 [n], found {data.dtype} {data.shape}")
    if data.size and data[-1] >= 128:
        raise ProtocolError("positions: the last one is cut off")
    ends = np.flatnonzero(data < 128)
    if count is not None and ends.size != count:
        raise ProtocolError(f"positions: expected {count} of them, found {ends.size}")
    if ends.size > size:
        raise ProtocolError(f"positions: {ends.size} cannot differ below {size}")
    if ends.size == data.size:
        gaps = data.astype(np.int64)
    else:
        starts = np.concatenate([[0], ends[:-1] + 1])
        lengths = ends - starts + 1
        if lengths.max() > _MAX_BYTES:
            raise ProtocolError(f"positions: a gap is longer than {_MAX_BYTES} bytes")
        gaps = data[starts].astype(np.int64) & 127
        for group in range(1, int(lengths.max())):
            longer = np.flatnonzero(lengths > group)
            gaps[longer] |= (data[starts[longer] + group].astype(np.int64) & 127) << (7 * group)
    positions = np.cumsum(gaps + 1) - 1
    if positions.size and positions[-1] >= size:
        raise ProtocolError(f"positions: one lies beyond {size}")
    return positions
