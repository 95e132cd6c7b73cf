"""A flat model, or an update of one, as the few arrays that a message carries, and back."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.codec import codec_for
from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.protocol.mask import Mask

_OTHER = "other/"


def pack_model(
    model: FlatModel,
    mask: Mask,
    weights_codec: str,
    rest_codec: str,
    rng: np.random.Generator | None = None,
) -> dict[str, NDArray[Any]]:
    """Encode the active weights, the rest and the other buffers of `model`.

    Returns
    -------
    dict of ndarray
        ``values`` [codec.nbytes(mask.count) bytes], ``rest`` [codec.nbytes(R) bytes] and
        ``other/<name>``; an empty part is left out.
    """
    arrays: dict[str, NDArray[Any]] = {}
    if mask.count:
        arrays["values"] = codec_for(weights_codec).encode(mask.select(model.weights), rng)
    if model.rest.size:
        arrays["rest"] = codec_for(rest_codec).encode(model.rest, rng)
    return arrays | {_OTHER + name: array for name, array in model.other.items()}


def unpack_model(
    arrays: Mapping[str, NDArray[Any]], mask: Mask, weights_codec: str, rest_codec: str
) -> FlatModel:
    """Decode what `pack_model` made; pruned weights are zero.

    Raises
    ------
    ProtocolError
        If an array is missing, too many, of the wrong dtype or length, or not finite.
    """
    values, rest, other = unpack_parts(arrays, mask, weights_codec, rest_codec)
    return FlatModel(mask.scatter(values), rest, other)


def unpack_parts(
    arrays: Mapping[str, NDArray[Any]], mask: Mask, weights_codec: str, rest_codec: str
) -> tuple[NDArray[Any], NDArray[Any], dict[str, NDArray[Any]]]:
    """Decode to active values [mask.count], rest [R] and other buffers, with the same checks."""
    layout = mask.layout
    values = _decode(arrays, "values", weights_codec, mask.count, layout)
    rest = _decode(arrays, "rest", rest_codec, layout.rest_count, layout)
    other = {}
    for entry in layout.other_entries:
        array = arrays.get(_OTHER + entry.name)
        if array is None or array.shape != entry.shape or array.dtype.name != entry.dtype:
            raise ProtocolError(f"buffer {entry.name!r}: expected {entry.dtype} {entry.shape}")
        other[entry.name] = array
    return values, rest, other


def encoding_rng(seed: int, round_: int, direction: str, label: str) -> np.random.Generator:
    """Return the generator of stochastic rounding for one message.

    Seeded by what identifies the message, so that a run repeated, or resumed, sends the same bytes.
    """
    words = [seed & 0xFFFFFFFF, round_, zlib.crc32(direction.encode()), zlib.crc32(label.encode())]
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(words)))


def _decode(
    arrays: Mapping[str, NDArray[Any]], name: str, codec: str, size: int, layout: Layout
) -> NDArray[Any]:
    data = arrays.get(name)
    if data is None:
        if size:
            raise ProtocolError(f"array {name!r} is missing: {size} values were expected")
        return np.empty(0, dtype=layout.dtype)
    return codec_for(codec).decode(data, size, layout.dtype)
