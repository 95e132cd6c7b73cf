"""Reading one reply of unknown origin: everything is checked before anything is used."""

import math

import numpy as np
from flwr.app import Message, MetricRecord
from flwr.common.constant import ErrorCode as FlowerCode

from caafp_app.errors import ProtocolError
from caafp_app.protocol.codec import codec_for
from caafp_app.protocol.gradient import unpack_gradient
from caafp_app.protocol.messages import Action, Answer, ErrorCode
from caafp_app.protocol.packing import GRADIENT_INDEX, GRADIENT_VALUE, VALUES, unpack_parts
from caafp_app.runner.options import WireFormat
from caafp_app.runner.query import Query, Update
from caafp_app.safe_text import sentence

MAX_WEIGHT = 1e15
"""A client's tokens or bytes may be as many; how far they count is the rule of influence's."""

MAX_REASON = 1000
"""Characters of a reason that are kept."""

_CURES = {
    # Whatever the app itself raises, sparse_mod turns into an error of ours.
    FlowerCode.CLIENT_APP_RAISED_EXCEPTION: (
        "; this was raised outside of sparse_mod: is it among the mods of the whole ClientApp, "
        "ClientApp(mods=[sparse_mod])? Mods that need the model, or the app's metrics of every "
        "reply, come after it"
    ),
    FlowerCode.MOD_FAILED_PRECONDITION: (
        "; before sparse_mod a mod sees packed updates, and no model: put it after, as in "
        "ClientApp(mods=[sparse_mod, ...]) or @app.train(mods=[...])"
    ),
}
"""What to do about errors of Flower's that say nothing of the cause, by code."""

LARGEST_MEAN = 2.0
"""A client's saliencies have a mean of 1, which a lossy codec changes by at most 0.04 (seen of
heavy-tailed saliencies of 10 to 89 088 weights). A smaller mean harms nobody else."""


def failure(message: Message) -> tuple[int, str] | None:
    """Return code and reason of an error reply; None if it is none."""
    if not message.has_error():
        return None
    code = message.error.code
    ours = code in set(ErrorCode)
    # Flower and Ray send a traceback, whose last line says what was wrong; a liar sends megabytes.
    told = (message.error.reason or "").strip()
    told = told[: 4 * MAX_REASON] if ours else told[-4 * MAX_REASON :]
    lines = told.splitlines() or ["no reason given"]
    reason = sentence(" ".join(lines if ours else lines[-1:]), MAX_REASON)
    if "function registered with name" in reason:
        reason += (
            "; nodes are asked who they are by the default train function: the app needs one, "
            "@app.train(), and @app.evaluate() unless fraction_evaluate=0"
        )
    else:
        reason += _CURES.get(code, "")
    name = ErrorCode(code).name.lower().replace("_", "-") if ours else f"error {code}"
    return code, f"{name}: {reason}"


def read_answer(message: Message, action: Action, round_: int, label: str) -> Answer:
    """Read the header of a reply; raise ProtocolError if it answers something else."""
    answer = Answer.from_records(message.content)
    if answer.action is not action:
        raise ProtocolError(f"expected an answer to {action}, found {answer.action}")
    if answer.round != round_:
        raise ProtocolError(f"reply of round {answer.round} in round {round_}")
    if answer.label != label:
        raise ProtocolError(f"expected {label!r}, found {answer.label!r}")
    return answer


def read_update(answer: Answer, query: Query, wire: WireFormat) -> Update:
    """Decode the update of a training reply; `vectors.scan` has still to look for NaN in it.

    Raises ProtocolError if it is packed by another mask, or lengths, dtypes or numbers are
    impossible.
    """
    mask, arrays = query.model.mask, answer.arrays
    if answer.mask_digest != mask.digest:
        found = answer.mask_digest or "none"
        raise ProtocolError(f"packed by mask {found}, expected {mask.digest}")
    values, rest, other = unpack_parts(arrays, mask, wire.up, wire.rest, scanned=True)
    gradient, limit = None, sum(query.gradients)
    if limit and GRADIENT_INDEX in arrays:
        if GRADIENT_VALUE not in arrays:
            raise ProtocolError("gradient: positions without values")
        index, value = arrays[GRADIENT_INDEX], arrays[GRADIENT_VALUE]
        gradient = unpack_gradient(index, value, answer.gradient_scale, mask, limit)
    return Update(values, rest, other, gradient)


def read_saliency(answer: Answer, query: Query, wire: WireFormat) -> Update:
    """Decode the saliencies of a saliency reply, none of them negative.

    Raises ProtocolError as `read_update` does; or if their mean is above `LARGEST_MEAN`, so that
    one client would decide the mask.
    """
    mask = query.model.mask
    if answer.mask_digest != mask.digest or VALUES not in answer.arrays:
        raise ProtocolError("saliency: no values, or of another mask")
    dtype, sent = mask.layout.dtype, mask.layout.weight_dtype
    values = codec_for(wire.up).decode(answer.arrays[VALUES], mask.count, sent, False)
    values = np.maximum(values, 0).astype(dtype, copy=False)
    with np.errstate(over="ignore"):
        mean = float(values.mean(dtype=np.float64)) if values.size else 0.0
    if mean > LARGEST_MEAN:
        raise ProtocolError(
            f"saliency: expected a mean of 1, found {mean:.3g}: refused, or one client "
            "would decide the mask"
        )
    return Update(values, np.zeros(mask.layout.rest_count, dtype=dtype), {})


def read_metrics(message: Message) -> MetricRecord:
    """Return the one MetricRecord of a reply; a perplexity in it may well be infinite.

    Raises ProtocolError if there is none, or more than one.
    """
    records = list(message.content.metric_records.values())
    if len(records) != 1:
        raise ProtocolError(f"expected one MetricRecord, found {len(records)}")
    return records[0]


def read_weight(metrics: MetricRecord, key: str) -> float:
    """Return the weight of a reply in the mean; 0: it counts for nothing.

    Raises ProtocolError if it is missing, a list, negative, not finite, or absurd.
    """
    value = metrics.get(key)
    if not isinstance(value, int | float):
        raise ProtocolError(f"metric {key!r}: expected one number, found {value!r:.60}")
    if not math.isfinite(value) or not 0 <= value <= MAX_WEIGHT:
        raise ProtocolError(
            f"metric {key!r}: expected a number from 0 to {MAX_WEIGHT:g}, found {value}"
        )
    return float(value)
