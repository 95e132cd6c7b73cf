"""The largest gradients at pruned positions: chosen by the client, coded, and read by the server.

Positions are sent as gaps between ascending positions *among the inactive weights*: where one in
twenty of them is sent nearly every gap takes one byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.gaps import decode_gaps, encode_gaps
from caafp_app.protocol.half import from_half, to_half
from caafp_app.protocol.mask import Mask
from caafp_app.vectors.largest import largest_magnitudes


@dataclass(frozen=True)
class SparseGradient:
    """Gradients [m] at a few of the inactive weights: flat positions, ascending, and values."""

    index: NDArray[np.int64]
    value: NDArray[np.float32]


def top_inactive(gradient: NDArray[Any], mask: Mask, counts: Sequence[int]) -> SparseGradient:
    """Keep, in each layer, the `counts[layer]` largest magnitudes at inactive positions of [P].

    Ties go to the lower position, so that equal gradients give equal messages; zeros are left out.

    Raises ProtocolError if there is not one count for each layer, or a gradient is NaN or infinite.
    """
    segments = mask.layout.segments
    if len(counts) != len(segments):
        raise ProtocolError(
            f"gradient counts: expected one for each of {len(segments)} layers, found {len(counts)}"
        )
    bounds = np.searchsorted(mask.inactive, [part.start for part in segments] + [mask.bits.size])
    values = gradient.take(mask.inactive)
    rank = np.concatenate(
        [np.empty(0, dtype=np.intp)]
        + [
            bounds[layer] + largest_magnitudes(values[bounds[layer] : bounds[layer + 1]], count)
            for layer, count in enumerate(counts)
        ]
    )
    return SparseGradient(mask.inactive[rank].astype(np.int64), values[rank].astype(np.float32))


def pack_gradient(
    gradient: SparseGradient, mask: Mask
) -> tuple[NDArray[np.uint8], NDArray[np.float16], float]:
    """Encode a gradient: the inverse of `unpack_gradient`, but for float16's rounding.

    Return the gaps between the positions among the inactive weights; the values [m] as shares of
    the largest magnitude, in [-1, 1]; and that magnitude.
    """
    chosen = np.zeros(mask.bits.size, dtype=np.bool_)
    chosen[gradient.index] = True
    rank = np.flatnonzero(chosen.take(mask.inactive))
    scale = np.abs(gradient.value).max(initial=np.float32(0))
    shares = gradient.value / scale if scale > 0 else gradient.value
    return encode_gaps(rank), to_half(shares), float(scale)


def unpack_gradient(
    gaps: NDArray[Any], shares: NDArray[Any], scale: float, mask: Mask, limit: int
) -> SparseGradient:
    """Read a gradient of unknown origin, packed by `mask`, of at most `limit` values.

    Raises ProtocolError if there are more, or positions, dtypes or numbers are impossible.
    """
    if shares.dtype != np.float16 or shares.ndim != 1:
        raise ProtocolError(
            f"gradient: expected float16 [n], found {shares.dtype} {list(shares.shape)}"
        )
    if shares.size > limit:
        raise ProtocolError(f"gradient: at most {limit} values were asked for, got {shares.size}")
    largest = float(np.finfo(np.float32).max)
    if not (0 <= scale <= largest and np.all(np.abs(shares) <= 1)):
        raise ProtocolError("gradient: values must be finite and within the stated scale")
    rank = decode_gaps(gaps, mask.bits.size - mask.count, shares.size)
    values = from_half(shares, np.dtype(np.float32)) * np.float32(scale)
    return SparseGradient(mask.inactive[rank].astype(np.int64), values)
