"""From the dense model that a ClientApp returned to the few arrays that are sent."""

from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import Context, RecordDict
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.arrays import from_record
from caafp_app.protocol.codec import codec_for
from caafp_app.protocol.gradient import SparseGradient, pack_gradient, top_inactive
from caafp_app.protocol.held import keep_record, kept_arrays
from caafp_app.protocol.layout import FlatModel
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import GRADIENT, RESERVED, TRAINING, Action, Answer, Request
from caafp_app.protocol.packing import (
    GRADIENT_INDEX,
    GRADIENT_VALUE,
    VALUES,
    Parts,
    encoding_rng,
    pack_parts,
)

PERSONAL = "personal"
"""Under this name a client keeps its personal model: see `held.kept_record`."""
_RESIDUAL = "residual"


def pack_training(
    request: Request,
    records: RecordDict,
    received: Parts,
    mask: Mask,
    context: Context,
    answer: Answer,
) -> Answer:
    """Turn the model that the app returned into the update, or keep it if it is personal.

    The mask is put back whatever the app did. `received` is the model it was given; `context` keeps
    a personal model, and what a lossy codec left over.

    Raises ProtocolError if the app returned no model, another one, or one with NaN or infinity.
    """
    trained = mask.layout.flatten(_returned_arrays(records, request.arrays_key))
    model = Parts(mask.select(trained.weights), trained.rest, trained.other)
    outside = 0
    if not mask.is_full:
        outside = int(np.count_nonzero(trained.weights) - np.count_nonzero(model.values))
    if request.action is Action.PERSONALISE:
        _require_finite(model)
        kept = FlatModel(mask.scatter(model.values), model.rest, model.other)
        keep_record(context, PERSONAL, mask.layout.unflatten(kept, copy=False))
        return replace(answer, outside=outside)
    if request.action is Action.SALIENCY:
        given = from_record(records, GRADIENT)
        slope = mask.select(_flat_gradient(given, mask)) if given else None
        saliency = _saliency(received.values, model.values, slope)
        saliency = saliency.astype(mask.layout.weight_dtype, copy=False)
        rng = encoding_rng(request.seed, request.round, "up", answer.label)
        return replace(answer, arrays={VALUES: codec_for(request.up).encode(saliency, rng)})
    with np.errstate(over="ignore", invalid="ignore"):
        update = Parts(model.values - received.values, model.rest - received.rest, model.other)
    _require_finite(update)
    arrays = _encode_update(request, update, mask, context, answer.label)
    scale = 0.0
    if request.gradient_counts:
        gradient = _largest_gradient(request, records, trained.weights, mask)
        arrays[GRADIENT_INDEX], arrays[GRADIENT_VALUE], scale = pack_gradient(gradient, mask)
    return replace(answer, arrays=arrays, gradient_scale=scale, outside=outside)


def strip_records(records: RecordDict, request: Request) -> None:
    """Remove what must not travel: the dense model, the gradient, echoes of our records."""
    name: str | None = request.arrays_key
    if request.action in TRAINING:
        name = returned_name(records, request.arrays_key)
    for unwanted in (name, *RESERVED):
        if unwanted is not None:
            records.pop(unwanted, None)


def _saliency(
    received: NDArray[Any], trained: NDArray[Any], slope: NDArray[Any] | None
) -> NDArray[Any]:
    """Return |g w| of the active weights, scaled to a mean of 1 (SNIP, Lee et al., 2019).

    An app that reports no gradient has moved along minus it: its drift stands in.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        saliency = np.abs(received * (trained - received if slope is None else slope))
        mean = saliency.mean(dtype=np.float64) if saliency.size else 0.0
    if not np.isfinite(mean):
        raise ProtocolError("saliency: found NaN or infinity in the gradient")
    scaled: NDArray[Any] = (saliency / mean).astype(received.dtype) if mean else saliency
    return scaled


def _encode_update(
    request: Request, update: Parts, mask: Mask, context: Context, label: str
) -> dict[str, NDArray[Any]]:
    """Encode an update; what a lossy codec leaves over is added to the next one of this client.

    Law (error feedback): the sum of what was sent, and of what is left over now, is the sum of the
    updates, as long as no weight that had something left over was pruned.
    """
    rng = encoding_rng(request.seed, request.round, "up", label)
    if request.up == "float32" or not mask.count:
        return pack_parts(update, mask.layout, request.up, request.rest, rng)
    whole = update.values + _left_over(mask, context, request.cluster)
    whole_update = update._replace(values=whole)
    arrays = pack_parts(whole_update, mask.layout, request.up, request.rest, rng)
    sent = codec_for(request.up).decode(arrays[VALUES], mask.count, mask.layout.weight_dtype, True)
    kept = {"mask": mask.packed, "values": whole - sent, "cluster": np.array([request.cluster])}
    keep_record(context, _RESIDUAL, kept)
    return arrays


def _left_over(mask: Mask, context: Context, cluster: int) -> NDArray[Any]:
    """Return what earlier updates left over, at the active weights of `mask` [count].

    A client that was moved to another cluster has nothing left over: its model is another one.
    """
    kept = kept_arrays(context, _RESIDUAL)
    before = int(kept["cluster"][0]) if kept else cluster
    moved = before != cluster and min(before, cluster) >= 0
    if not kept or moved or kept["mask"].shape != mask.packed.shape:  # nothing, or of another model
        return np.zeros(mask.count, dtype=mask.layout.dtype)
    if np.array_equal(kept["mask"], mask.packed):
        return kept["values"]
    return mask.select(Mask.unpack(mask.layout, kept["mask"]).scatter(kept["values"]))


def _largest_gradient(
    request: Request, records: RecordDict, trained: NDArray[Any], mask: Mask
) -> SparseGradient:
    """Choose among the gradients that the app reports, or take its drift for want of them."""
    given = from_record(records, GRADIENT)
    if given:
        return top_inactive(_flat_gradient(given, mask), mask, request.gradient_counts)
    # An app that trains densely drifts at pruned weights, from zero, along minus the gradient.
    drift = top_inactive(trained, mask, request.gradient_counts)
    return replace(drift, value=-drift.value)


def _flat_gradient(given: dict[str, NDArray[Any]], mask: Mask) -> NDArray[Any]:
    flat = np.empty(mask.bits.size, dtype=mask.layout.dtype)
    for name, part in mask.layout.split(flat).items():
        array = given.get(name)
        if array is None or array.shape != part.shape:
            found = "nothing" if array is None else array.shape
            raise ProtocolError(f"gradient of {name!r}: expected shape {part.shape}, found {found}")
        part[...] = array
    return flat


def _require_finite(parts: Parts) -> None:
    if not (np.isfinite(parts.values).all() and np.isfinite(parts.rest).all()):
        raise ProtocolError("training diverged: the trained model holds NaN or infinity")


def _returned_arrays(records: RecordDict, key: str) -> dict[str, NDArray[Any]]:
    name = returned_name(records, key)
    if name is None:
        found = ", ".join(records.array_records) or "none"
        raise ProtocolError(
            "the ClientApp must return the trained model as its only ArrayRecord, "
            f"or under the name {key!r}; found {found}"
        )
    return from_record(records, name)


def returned_name(records: RecordDict, key: str) -> str | None:
    """Return the name of the ArrayRecord that holds the trained model."""
    names = [name for name in records.array_records if name not in RESERVED]
    if key in names:
        return key
    return names[0] if len(names) == 1 else None
