"""What a client keeps between messages: its layout and mask, by digest, in ``context.state``.

A SuperNode's state lives in memory and dies with its process; a client that lost it says so with
`MaskUnknownError`, and the server sends the mask in full within the same round.
"""

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.gradient import decode_gaps, encode_gaps
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Request, from_record, to_record

_HELD = "caafp.held"
_HELD_ARRAYS = "caafp.held.arrays"


class MaskUnknownError(ProtocolError):
    """A request names a mask that this client does not hold."""


def held_mask(context: Context) -> Mask | None:
    """Return the mask of the last request, or None before the first."""
    config = context.state.config_records.get(_HELD)
    if config is None or "layout" not in config:
        return None
    layout = Layout.from_json(bytes(config["layout"]))  # type: ignore[arg-type]
    packed = from_record(context.state, _HELD_ARRAYS).get("mask")
    return Mask.full(layout) if packed is None else Mask.unpack(layout, packed)


def current_mask(context: Context) -> dict[str, NDArray[np.bool_]] | None:
    """Return this client's mask by layer, for a ClientApp that wants to train inside it.

    Returns
    -------
    dict of str to ndarray of bool, or None
        True where a weight is active, by name and shape of each prunable array; read-only. None
        while the client has received no model through `sparse_mod`, or the model is dense.
    """
    mask = held_mask(context)
    return None if mask is None or mask.is_full else mask.by_layer()


def resolve_mask(request: Request, context: Context) -> Mask:
    """Find the mask that `request` is packed by, and keep it.

    Raises
    ------
    MaskUnknownError
        If neither the request nor the kept state holds it.
    ProtocolError
        If what the request holds is not the mask that it names.
    """
    held = held_mask(context)
    mask = _resolve(request, held)
    if mask.digest != request.mask_digest:
        raise ProtocolError(f"mask {request.mask_digest} was named, {mask.digest} was sent")
    if held is None or held.digest != mask.digest:
        remember_mask(mask, context)
    return mask


def remember_mask(mask: Mask, context: Context) -> None:
    """Keep a mask; of a dense model the layout alone."""
    config = context.state.config_records.get(_HELD) or ConfigRecord()
    config["layout"] = mask.layout.to_json()
    context.state[_HELD] = config
    arrays = {} if mask.is_full else {"mask": mask.packed}
    context.state[_HELD_ARRAYS] = to_record(arrays)


def mask_difference(old: Mask, new: Mask) -> NDArray[np.uint8]:
    """Code the positions at which two masks of one layout differ, as gaps."""
    return encode_gaps(np.flatnonzero(old.bits != new.bits))


def kept_text(context: Context, key: str) -> str:
    """Read a text kept by `keep_text`; empty if there is none."""
    config = context.state.config_records.get(_HELD)
    value = "" if config is None else config.get(key, "")
    return value if isinstance(value, str) else ""


def keep_text(context: Context, key: str, value: str) -> None:
    """Keep a short text beside the mask."""
    config = context.state.config_records.get(_HELD) or ConfigRecord()
    config[key] = value
    context.state[_HELD] = config


def keep_record(context: Context, name: str, arrays: dict[str, NDArray[np.float32]]) -> None:
    """Keep named arrays under ``caafp.<name>``."""
    context.state[f"caafp.{name}"] = to_record(arrays)


def kept_record(context: Context, name: str) -> ArrayRecord | None:
    """Return what `keep_record` kept."""
    return context.state.array_records.get(f"caafp.{name}")


def _resolve(request: Request, held: Mask | None) -> Mask:
    if request.layout:
        layout = Layout.from_json(request.layout)
    elif held is not None:
        layout = held.layout
    else:
        raise MaskUnknownError("this client holds no model layout yet")
    if request.mask is not None and request.mask_base:
        if held is None or held.digest != request.mask_base:
            raise MaskUnknownError(f"mask {request.mask_base} is not held here")
        ends = int(np.count_nonzero(request.mask < 128)) if request.mask.dtype == np.uint8 else -1
        flipped = decode_gaps(request.mask, ends, layout.weight_count)
        bits = held.bits.copy()
        bits[flipped] = ~bits[flipped]
        return Mask(layout, bits)
    if request.mask is not None:
        return Mask.unpack(layout, request.mask)
    if held is not None and held.digest == request.mask_digest:
        return held
    full = Mask.full(layout)
    if full.digest == request.mask_digest:
        return full
    raise MaskUnknownError(f"mask {request.mask_digest} is not held here")
