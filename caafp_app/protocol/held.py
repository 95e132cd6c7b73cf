"""What a client keeps between messages, in ``context.state``: layout, mask, label, own arrays.

The app at work finds its own records there alone: ours are set aside.

A SuperNode's state lives in memory and dies with its process; a client that lost it says so with
`LackingError`, and the server sends the mask in full within the same round.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.arrays import from_record, to_record
from caafp_app.protocol.gaps import decode_gaps, encode_gaps
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import HEADER, ErrorCode, Request

_Kept = TypeVar("_Kept", str, bytes)

_HELD = "caafp.held"
_HELD_ARRAYS = "caafp.held.arrays"
_REQUEST = "caafp.request"
_MODEL = "model"
_ASIDE = "_caafp_aside"


class LackingError(ProtocolError):
    """A request names a mask, or a model, that this client does not hold."""

    def __init__(self, reason: str, code: ErrorCode = ErrorCode.MASK_UNKNOWN) -> None:
        super().__init__(reason)
        self.code = code


def current_mask(context: Context) -> dict[str, NDArray[np.bool_]] | None:
    """Return this client's mask by layer, for a ClientApp that wants to train inside it.

    True where a weight is active, by name and shape of each prunable array; read-only. None while
    the client has received no model through `sparse_mod`, or the model is dense.
    """
    mask = held_mask(context)
    return None if mask is None or mask.is_full else mask.by_layer()


def current_request(context: Context) -> Request | None:
    """Return what the server asks in the message at hand, for an app or mod that wants to know.

    The message's records are FedAvg's. What is ours is here, without arrays: the action, e.g.
    ``train`` or ``personalise``, the phase, the client's cluster, and which gradients are wanted.
    None outside of a call by `sparse_mod`, as in a run of Flower's FedAvg.
    """
    header = _ours(context).get(_REQUEST)
    if not isinstance(header, ConfigRecord):
        return None
    return Request.from_records(RecordDict({HEADER: header}))


def show_request(context: Context, header: ConfigRecord | None) -> None:
    """Let `current_request` return the request of this header; None: none any more."""
    _ours(context).pop(_REQUEST, None)
    if header is not None:
        _ours(context)[_REQUEST] = header


@contextmanager
def set_aside(context: Context) -> Iterator[None]:
    """Keep our records out of the app's sight, whatever it does with its state."""
    state = context.state
    ours = {name: state.pop(name) for name in list(state) if name.startswith("caafp.")}
    context.__dict__[_ASIDE] = RecordDict(ours)
    try:
        yield
    finally:
        context.state.update(context.__dict__.pop(_ASIDE))


def _ours(context: Context) -> RecordDict:
    aside: RecordDict = context.__dict__.get(_ASIDE, context.state)
    return aside


def held_mask(context: Context) -> Mask | None:
    """Return the mask of the last request, or None before the first."""
    layout = _kept(context, "layout", bytes)
    if not layout:
        return None
    packed = from_record(_ours(context), _HELD_ARRAYS).get("mask")
    described = Layout.from_json(layout)
    return Mask.full(described) if packed is None else Mask.unpack(described, packed)


def held_digest(context: Context) -> str:
    """Return the digest of `held_mask`, without making it; empty before the first request."""
    return kept_text(context, "digest")


def find_mask(request: Request, context: Context) -> Mask:
    """Find the mask that `request` is packed by.

    It may be of a layout that claims any size: keep it once the values that go with it are there.

    Raises LackingError if neither the request nor the kept state holds it, and ProtocolError if
    what the request holds is not the mask that it names.
    """
    held = held_mask(context)
    if held is not None and held_digest(context) == request.mask_digest:
        return held
    mask = _received(request, held, held_digest(context))
    if mask.digest != request.mask_digest:
        raise ProtocolError(f"mask {request.mask_digest!r} was named, {mask.digest} was sent")
    return mask


def remember_mask(mask: Mask, context: Context) -> None:
    """Keep a mask and its digest, if it is not held already; of a dense model the layout alone."""
    if held_digest(context) == mask.digest:
        return
    keep(context, layout=mask.layout.to_json(), digest=mask.digest)
    _ours(context)[_HELD_ARRAYS] = to_record({} if mask.is_full else {"mask": mask.packed})


def find_model(request: Request, context: Context) -> Mapping[str, NDArray[Any]]:
    """Return the packed arrays of a request: its own, or those kept that it names.

    Raises LackingError if it names others than are kept.
    """
    if request.arrays or not request.model:
        return request.arrays
    if kept_text(context, _MODEL) != request.model:
        raise LackingError(f"model {request.model!r} is not held here")
    return kept_arrays(context, _MODEL)


def remember_model(request: Request, context: Context) -> None:
    """Keep the packed arrays of a request that says so, in place of those kept before."""
    if request.arrays and request.model:
        keep_record(context, _MODEL, request.arrays)
        keep(context, model=request.model)


def mask_difference(old: Mask, new: Mask) -> NDArray[np.uint8]:
    """Code the positions at which two masks of one layout differ, as gaps.

    Raises ProtocolError if they are of two layouts.
    """
    if old.layout.digest != new.layout.digest:
        raise ProtocolError("masks of two layouts have no difference: send the new one in full")
    return encode_gaps(np.flatnonzero(old.bits != new.bits))


def keep(context: Context, **values: str | bytes) -> None:
    """Keep short values beside the mask, by name."""
    record = _ours(context).get(_HELD)
    kept = dict(record) if isinstance(record, ConfigRecord) else {}
    _ours(context)[_HELD] = ConfigRecord({**kept, **values})


def kept_text(context: Context, key: str) -> str:
    """Read a text kept by `keep`; empty if there is none."""
    return _kept(context, key, str)


def keep_record(context: Context, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keep named arrays under ``caafp.<name>``."""
    _ours(context)[f"caafp.{name}"] = to_record(arrays)


def kept_record(context: Context, name: str) -> ArrayRecord | None:
    """Return what `keep_record` kept, in a record of its own: to empty it loses nothing."""
    record = _ours(context).get(f"caafp.{name}")
    return ArrayRecord(dict(record)) if isinstance(record, ArrayRecord) else None


def kept_arrays(context: Context, name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays that `keep_record` kept, as read-only views; empty if there are none."""
    return from_record(_ours(context), f"caafp.{name}")


def _received(request: Request, held: Mask | None, held_digest: str) -> Mask:
    """Return the mask that a request sends, whole, as a difference, or by leaving it out."""
    if request.mask_base:
        if held is None or held_digest != request.mask_base:
            raise LackingError(f"mask {request.mask_base!r} is not held here")
        if request.mask is None:
            raise ProtocolError(
                f"a difference from mask {request.mask_base!r} was named, none sent"
            )
        bits = held.bits.copy()
        bits[decode_gaps(request.mask, bits.size)] ^= True
        return Mask(held.layout, bits)
    if request.layout:
        layout = Layout.from_json(request.layout)
    elif held is not None:
        layout = held.layout
    else:
        raise LackingError("this client holds no model layout yet")
    if request.mask is not None:
        return Mask.unpack(layout, request.mask)
    full = Mask.full(layout)  # nothing is sent for a dense model but its digest
    if full.digest == request.mask_digest:
        return full
    raise LackingError(f"mask {request.mask_digest!r} is not held here")


def _kept(context: Context, key: str, kind: type[_Kept]) -> _Kept:
    record = _ours(context).get(_HELD)
    value = record.get(key) if isinstance(record, ConfigRecord) else None
    return value if isinstance(value, kind) else kind()
