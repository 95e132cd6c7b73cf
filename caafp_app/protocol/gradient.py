"""The largest gradients at pruned positions: chosen by the client, coded, and read by the server.

Positions are sent as gaps between ascending positions *among the inactive weights*, seven bits to
a byte (LEB128): at density d and m of n inactive positions most gaps fit one byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.mask import Mask


@dataclass(frozen=True)
class SparseGradient:
    """Gradients at a few of the inactive weights.

    Attributes
    ----------
    index : ndarray of int64 [m]
        Flat positions, strictly ascending, all inactive.
    value : ndarray of float32 [m]
    """

    index: NDArray[np.int64]
    value: NDArray[np.float32]


def top_inactive(gradient: NDArray[Any], mask: Mask, counts: Sequence[int]) -> SparseGradient:
    """Keep, in each layer, the `counts[layer]` largest magnitudes at inactive positions.

    Ties go to the lower position, so that equal gradients give equal messages.
    """
    chosen = []
    for part, count in zip(mask.layout.segments, counts, strict=True):
        inactive = part.start + np.flatnonzero(~mask.bits[part])
        if count and inactive.size:
            order = np.argsort(-np.abs(gradient[inactive]), kind="stable")[:count]
            chosen.append(inactive[np.sort(order)])
    index = np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)
    return SparseGradient(index.astype(np.int64), gradient[index].astype(np.float32))


def pack_gradient(
    gradient: SparseGradient, mask: Mask
) -> tuple[NDArray[np.uint8], NDArray[np.float16], float]:
    """Return gaps as bytes, values as float16 shares of the largest, and that largest magnitude."""
    rank = np.cumsum(~mask.bits) - 1
    scale = float(np.abs(gradient.value).max(initial=0.0))
    shares = gradient.value / scale if scale > 0 else gradient.value
    return encode_gaps(rank[gradient.index]), shares.astype(np.float16), scale


def unpack_gradient(
    gaps: NDArray[Any], shares: NDArray[Any], scale: float, mask: Mask, limit: int
) -> SparseGradient:
    """Read a gradient of unknown origin.

    Raises
    ------
    ProtocolError
        If there are more than `limit` values, or positions, dtypes or numbers are impossible.
    """
    if gaps.dtype != np.uint8 or shares.dtype != np.float16 or gaps.ndim != 1 or shares.ndim != 1:
        raise ProtocolError(
            "gradient: expected uint8 gaps and float16 values, "
            f"found {gaps.dtype} {list(gaps.shape)} and {shares.dtype} {list(shares.shape)}"
        )
    if shares.size > limit:
        raise ProtocolError(f"gradient: at most {limit} values were asked for, got {shares.size}")
    if not (np.isfinite(scale) and scale >= 0 and np.all(np.abs(shares) <= 1)):
        raise ProtocolError("gradient: values must be finite and within the stated scale")
    inactive = np.flatnonzero(~mask.bits)
    rank = decode_gaps(gaps, shares.size, inactive.size)
    return SparseGradient(
        inactive[rank].astype(np.int64), shares.astype(np.float32) * np.float32(scale)
    )


def encode_gaps(positions: NDArray[Any]) -> NDArray[np.uint8]:
    """Encode strictly ascending positions [m] as LEB128 gaps, the first from -1, each less one."""
    previous = np.concatenate([[-1], positions[:-1]]) if positions.size else positions
    gaps = (positions - previous - 1).astype(np.int64)
    groups = [gaps & 127]
    while (gaps := gaps >> 7).any():
        groups.append(gaps & 127)
    table = np.stack(groups)
    # A byte is sent when it or a later one of its gap is not zero; the first always is.
    sent = np.flip(np.logical_or.accumulate(np.flip(table != 0, 0), axis=0), 0)
    sent[0] = True
    more = np.vstack([sent[1:], np.zeros((1, table.shape[1]), dtype=bool)])
    coded: NDArray[np.uint8] = (table | (more << 7)).T[sent.T].astype(np.uint8)
    return coded


def decode_gaps(data: NDArray[np.uint8], count: int, size: int) -> NDArray[np.int64]:
    """Decode `count` ascending positions below `size`; the inverse of `encode_gaps`.

    Raises
    ------
    ProtocolError
        If the bytes hold another number of gaps, or a position lies beyond `size`.
    """
    ends = np.flatnonzero(data < 128)
    if ends.size != count or (data.size and data[-1] >= 128):
        raise ProtocolError(f"gradient: expected {count} positions, found {ends.size}")
    if count == 0:
        return np.empty(0, dtype=np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 4:
        raise ProtocolError("gradient: a gap is longer than five bytes")
    place = np.arange(data.size) - np.repeat(starts, ends - starts + 1)
    parts = (data & np.uint8(127)).astype(np.int64) << (7 * place)
    positions = np.cumsum(np.add.reduceat(parts, starts) + 1) - 1
    if positions[-1] >= size:
        raise ProtocolError(f"gradient: a position lies beyond the {size} inactive weights")
    return positions
