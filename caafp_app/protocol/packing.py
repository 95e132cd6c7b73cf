"""A flat model, or an update of one, as the few arrays that a message carries, and back."""

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.codec import codec_for
from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.protocol.mask import Mask

VALUES, REST, OTHER = "values", "rest", "other/"
"""Names of the arrays; a buffer's own name follows the slash."""
GRADIENT_INDEX, GRADIENT_VALUE = "gradient-index", "gradient-value"
"""Names of the arrays that a client's answer may have besides."""

MOST_TRIALS = 16
"""A message asks for no more evaluations than these."""


class Parts(NamedTuple):
    """A model, or an update of one, without its pruned weights.

    `values` [mask.count] at active positions, `rest` [R] of the same dtype, and carried buffers.
    """

    values: NDArray[Any]
    rest: NDArray[Any]
    other: dict[str, NDArray[Any]]


def pack_model(
    model: FlatModel,
    mask: Mask,
    weights_codec: str,
    rest_codec: str,
    rng: np.random.Generator | None = None,
) -> dict[str, NDArray[Any]]:
    """Encode the active weights, the rest and the other buffers of `model`: see `pack_parts`."""
    parts = Parts(mask.select(model.weights), model.rest, model.other)
    return pack_parts(parts, mask.layout, weights_codec, rest_codec, rng)


def pack_parts(
    parts: Parts,
    layout: Layout,
    weights_codec: str,
    rest_codec: str,
    rng: np.random.Generator | None = None,
) -> dict[str, NDArray[Any]]:
    """Encode what has been taken apart already; an empty part is left out.

    With codec ``float32`` the arrays may be the model's own, not copies. `rng` decides stochastic
    rounding; without one codecs round to the nearest.
    """
    arrays: dict[str, NDArray[Any]] = {}
    if parts.values.size:
        values = parts.values.astype(layout.weight_dtype, copy=False)
        arrays[VALUES] = codec_for(weights_codec).encode(values, rng)
    if parts.rest.size:
        rest = parts.rest.astype(layout.rest_dtype, copy=False)
        arrays[REST] = codec_for(rest_codec).encode(rest, rng)
    return arrays | {OTHER + name: array for name, array in parts.other.items()}


def unpack_parts(
    arrays: Mapping[str, NDArray[Any]],
    mask: Mask,
    weights_codec: str,
    rest_codec: str,
    *,
    scanned: bool = False,
) -> Parts:
    """Decode what `pack_parts` made, of unknown origin, perhaps as read-only views of `arrays`.

    A client's gradient among the arrays is left alone. `scanned`: see `Codec`. Raises ProtocolError
    if an array is missing, too many, of the wrong dtype or length, or not finite.
    """
    layout = mask.layout
    others = {OTHER + entry.name for entry in layout.other_entries}
    extra = arrays.keys() - others - {VALUES, REST, GRADIENT_INDEX, GRADIENT_VALUE}
    if extra:
        raise ProtocolError(f"array {min(extra)!r} is not of this model")
    values = _decode(arrays, VALUES, weights_codec, mask.count, layout, scanned)
    rest = _decode(arrays, REST, rest_codec, layout.rest_count, layout, scanned)
    other = {}
    for entry in layout.other_entries:
        array = arrays.get(OTHER + entry.name)
        if array is None or array.shape != entry.shape or array.dtype.name != entry.dtype:
            found = "nothing" if array is None else f"{array.dtype} {array.shape}"
            raise ProtocolError(
                f"buffer {entry.name!r}: expected {entry.dtype} {entry.shape}, found {found}"
            )
        other[entry.name] = array
    return Parts(values, rest, other)


def pack_trials(kept: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack which active weights each trial of a model keeps [n, A], as [n, ceil(A / 8)]."""
    return np.packbits(kept, axis=1)


def unpack_trials(packed: NDArray[Any], size: int) -> NDArray[np.bool_]:
    """Unpack what `pack_trials` made of masks of `size` weights, of unknown origin.

    Raises ProtocolError if it is no such array, or of more than `MOST_TRIALS`.
    """
    wanted = -(-size // 8)
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != wanted:
        raise ProtocolError(
            f"trials: expected uint8 [n, {wanted}], found {packed.dtype} {packed.shape}"
        )
    if not 1 <= len(packed) <= MOST_TRIALS:
        raise ProtocolError(f"trials: expected 1 to {MOST_TRIALS}, found {len(packed)}")
    return np.unpackbits(packed, axis=1, count=size).astype(np.bool_)


def encoding_rng(seed: int, round_: int, direction: str, label: str) -> np.random.Generator:
    """Return the generator of stochastic rounding for one message.

    Seeded by what identifies the message, so that a run repeated, or resumed, sends the same bytes.
    """
    words = [seed & 0xFFFFFFFF, round_, zlib.crc32(direction.encode()), zlib.crc32(label.encode())]
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(words)))


def _decode(
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    codec: str,
    size: int,
    layout: Layout,
    scanned: bool,
) -> NDArray[Any]:
    data = arrays.get(name)
    if data is None:
        if size:
            raise ProtocolError(f"array {name!r} is missing: {size} values were expected")
        return np.empty(0, dtype=layout.dtype)
    dtype = layout.weight_dtype if name == VALUES else layout.rest_dtype
    return codec_for(codec).decode(data, size, dtype, scanned).astype(layout.dtype, copy=False)
