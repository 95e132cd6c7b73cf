"""From the dense model that a ClientApp returned to the few arrays that are sent.

The mask is put back whatever the app did; a personal model is kept instead of sent.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.codec import codec_for
from caafp_app.protocol.gradient import pack_gradient, top_inactive
from caafp_app.protocol.held import keep_record, kept_record
from caafp_app.protocol.layout import FlatModel
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import (
    ARRAYS,
    GRADIENT,
    HEADER,
    Action,
    Answer,
    Request,
    from_record,
)
from caafp_app.protocol.packing import encoding_rng, pack_model


def pack_training(
    request: Request,
    reply: Message,
    received: FlatModel,
    mask: Mask,
    context: Context,
    answer: Answer,
) -> Answer:
    """Turn the arrays that the app returned into the update, or keep them if they are personal."""
    layout = mask.layout
    trained = layout.flatten(_returned_arrays(reply.content, request.arrays_key))
    if not (np.isfinite(trained.weights).all() and np.isfinite(trained.rest).all()):
        raise ProtocolError("training diverged: the trained model holds NaN or infinity")
    change = trained.weights - received.weights
    outside = int(np.count_nonzero(trained.weights[~mask.bits]))
    if request.action is Action.PERSONALISE:
        kept = FlatModel(mask.scatter(mask.select(trained.weights)), trained.rest, trained.other)
        keep_record(context, "personal", layout.unflatten(kept))
        return replace(answer, outside=outside)
    update = FlatModel(change, trained.rest - received.rest, trained.other)
    arrays = _encode_update(request, update, mask, context, answer.label)
    scale = 0.0
    if request.gradient_counts:
        if len(request.gradient_counts) != len(layout.segments):
            raise ProtocolError(f"gradient counts: expected {len(layout.segments)} layers")
        given = from_record(reply.content, GRADIENT)
        # An app that trains densely drifts at pruned positions along minus the gradient.
        gradient = _gradient_of(given, mask) if given else -change
        gaps, values, scale = pack_gradient(
            top_inactive(gradient, mask, request.gradient_counts), mask
        )
        arrays |= {"gradient-index": gaps, "gradient-value": values}
    return replace(answer, arrays=arrays, gradient_scale=scale, outside=outside)


def _encode_update(
    request: Request, update: FlatModel, mask: Mask, context: Context, label: str
) -> dict[str, NDArray[Any]]:
    """Encode an update; what a lossy codec leaves over is added to the next one of this client."""
    rng = encoding_rng(request.seed, request.round, "up", label)
    if request.up == "float32":
        return pack_model(update, mask, request.up, request.rest, rng)
    kept = kept_record(context, "residual")
    if kept is not None and kept["weights"].shape == update.weights.shape:
        update.weights += kept["weights"].numpy()
    arrays = pack_model(update, mask, request.up, request.rest, rng)
    if mask.count:
        codec = codec_for(request.up)
        sent = codec.decode(arrays["values"], mask.count, mask.layout.dtype)
        keep_record(
            context, "residual", {"weights": mask.scatter(mask.select(update.weights) - sent)}
        )
    return arrays


def _gradient_of(given: dict[str, NDArray[Any]], mask: Mask) -> NDArray[Any]:
    flat = np.zeros(mask.bits.size, dtype=mask.layout.dtype)
    for entry, part in zip(mask.layout.weight_entries, mask.layout.segments, strict=True):
        array = given.get(entry.name)
        if array is None or array.shape != entry.shape:
            raise ProtocolError(f"gradient of {entry.name!r}: expected shape {entry.shape}")
        flat[part] = array.reshape(-1)
    return flat


def _returned_arrays(records: RecordDict, key: str) -> dict[str, NDArray[Any]]:
    name = _returned_name(records, key)
    if name is None:
        found = ", ".join(records.array_records) or "none"
        raise ProtocolError(
            f"the ClientApp must return the trained model as one ArrayRecord; found {found}"
        )
    return from_record(records, name)


def _returned_name(records: RecordDict, key: str) -> str | None:
    """Return the name of the ArrayRecord that holds the trained model."""
    names = [name for name in records.array_records if name not in (GRADIENT, ARRAYS)]
    if key in names:
        return key
    return names[0] if len(names) == 1 else None


def strip_records(records: RecordDict, key: str) -> None:
    """Remove what must not travel: the dense model, the gradient, echoes of our records."""
    for name in {_returned_name(records, key), GRADIENT, HEADER, ARRAYS}:
        if name is not None and name in records:
            del records[name]
