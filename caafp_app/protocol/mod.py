"""`sparse_mod`: the client's half of the protocol, for any ClientApp.

The app keeps receiving an ordinary dense ArrayRecord and keeps returning one; the mod unpacks what
arrives, puts the mask back on what the app returns, and sends the update at active positions alone.
Messages of other strategies pass untouched.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from logging import ERROR
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode as FlowerCode
from flwr.common.logger import log
from numpy.typing import NDArray

from caafp_app.errors import CaafpError, ProtocolError
from caafp_app.protocol.arrays import to_record
from caafp_app.protocol.description import Description, describe_node
from caafp_app.protocol.held import (
    LackingError,
    find_mask,
    find_model,
    keep,
    kept_record,
    kept_text,
    remember_mask,
    remember_model,
    set_aside,
    show_request,
)
from caafp_app.protocol.identity import KEY_PATH, Proof, prove
from caafp_app.protocol.layout import FlatModel
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import HEADER, Action, Answer, ErrorCode, Request, is_ours
from caafp_app.protocol.packing import Parts, unpack_parts, unpack_trials
from caafp_app.protocol.payload import detached
from caafp_app.protocol.trained import PERSONAL, pack_training, returned_name, strip_records

_MAX_REASON = 1000


@dataclass(frozen=True, eq=False)
class Received:
    """A message of ours, unpacked.

    `content` is what the app is to see in place of the message's: the dense model, and the user's
    own records. `parts` are the model in parts; None if it is the personal one, which is kept here.
    `trials` [n, mask.count] say which active weights each trial of the model keeps.
    """

    message: Message
    content: RecordDict
    request: Request
    mask: Mask
    parts: Parts | None
    trials: NDArray[np.bool_] | None = None

    def each(self) -> Iterator[RecordDict]:
        """Yield what the app is to see: once, or for each trial the model cut as it says."""
        if self.trials is None or self.parts is None:
            yield self.content
            return
        parts, key = self.parts, self.request.arrays_key
        for kept in self.trials:
            record = _record_of(self.mask, parts._replace(values=np.where(kept, parts.values, 0)))
            yield RecordDict({**self.content, key: record})


class SparseMod:
    """The mod as an object, for apps that describe themselves.

    It is `receive`, the app, and `answer`. What serves many clients at once calls these two itself.
    ``describe(context) -> Description`` is called once per run, in a process that should stay
    light: import no training framework in it.
    """

    def __init__(self, describe: Callable[[Context], Description] = describe_node) -> None:
        self.describe = describe

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Serve one message; whatever goes wrong becomes an error reply with a reason."""
        if not message.has_content() or not is_ours(message.content):
            return call_next(message, context)
        received = self.receive(message, context)
        if isinstance(received, Message):
            return received
        sent, replies = message.content, []
        try:
            with set_aside(context):
                for message.content in received.each():
                    replies.append(call_next(message, context))
        except Exception as error:  # the app's own code: any error of it is an error reply
            return failure(message, error)
        finally:
            message.content = sent  # mods around this one find their message as it was
            show_request(context, None)
        return self.answer(received, replies, context)

    def receive(self, message: Message, context: Context) -> Received | Message:
        """Unpack a message of ours; return the reply itself where it takes no app to make it."""
        try:
            request = Request.from_records(message.content)
            if request.action is not Action.DESCRIBE:
                return _receive(request, message, context)
        except ProtocolError as error:
            code = error.code if isinstance(error, LackingError) else ErrorCode.BAD_REQUEST
            return _refuse(message, code, str(error))
        except MemoryError:
            reason = "the model does not fit the memory of this device"
            return _refuse(message, ErrorCode.BAD_REQUEST, reason)
        try:
            return self._answer_describe(request, message, context)
        except Exception as error:
            return failure(message, error)

    def answer(self, received: Received, replies: Sequence[Message], context: Context) -> Message:
        """Pack the app's replies to what `Received.each` yields, in place of the last one."""
        request = received.request
        show_request(context, None)
        for one in replies:
            if not isinstance(one, Message):
                found = f"expected a Message of the ClientApp, found {one!r:.80}: return one"
                return _refuse(received.message, ErrorCode.CLIENT_FAILED, found)
        reply = next((one for one in replies if not one.has_content()), replies[-1])
        if not reply.has_content():
            if reply.error.code == FlowerCode.MOD_FAILED_PRECONDITION:
                # By another code the server tells a mod after this one from one before it.
                reason = reply.error.reason or "no reason"
                return _refuse(received.message, ErrorCode.CLIENT_FAILED, reason)
            return reply
        try:
            if len(replies) > 1:
                _join_metrics(reply.content, [one.content for one in replies])
            key = request.arrays_key
            answer = Answer(
                self._label(context),
                action=request.action,
                round=request.round,
                mask_digest=request.mask_digest,
                record=request.record and (returned_name(reply.content, key) or key),
            )
            if received.parts is not None and request.action is not Action.EVALUATE:
                answer = pack_training(
                    request, reply.content, received.parts, received.mask, context, answer
                )
            strip_records(reply.content, request)
            # In the order of the app's own: what is ours comes last.
            records = answer.to_records()
            header = records.config_records.pop(HEADER)
            if request.action in (Action.EVALUATE, Action.EVALUATE_PERSONAL):
                records.pop(answer.record, None)  # FedAvg's evaluation returns no arrays
            reply.content = RecordDict({**records, **reply.content, HEADER: header})
        except Exception as error:
            return failure(received.message, error)
        return reply

    def _answer_describe(self, request: Request, message: Message, context: Context) -> Message:
        description = self.describe(context)
        keep(context, label=description.label)
        key = str(context.node_config.get(KEY_PATH, ""))
        proof = Proof()
        if key:
            path = Path(key).expanduser()
            proof = prove(path, context.run_id, context.node_id, description.label)
        answer = Answer(
            **{one.name: getattr(description, one.name) for one in fields(Description)},
            action=Action.DESCRIBE,
            round=request.round,
            proof=proof,
            record=request.record,
        )
        records = answer.to_records()
        if request.record:
            # Mods around this one may read metrics of every reply.
            records["metrics"] = MetricRecord({"num-examples": max(description.examples, 0)})
        return Message(records, reply_to=message)

    def _label(self, context: Context) -> str:
        label = kept_text(context, "label")
        if not label:
            label = self.describe(context).label
            keep(context, label=label)
        return label


def failure(message: Message, error: Exception) -> Message:
    """Return the error reply that tells of a failed client; what is no error of ours is logged."""
    if isinstance(error, CaafpError):
        return _refuse(message, ErrorCode.CLIENT_FAILED, str(error))
    log(ERROR, "the ClientApp raised", exc_info=error)
    reason = f"{type(error).__name__}: {error}"
    if "fitins." in reason or "evaluateins." in reason:
        reason += (
            "; ClientApp(client_fn=...) is of Flower's older interface, and takes no messages of "
            "flwr.serverapp: write the app with @app.train() and @app.evaluate()"
        )
    return _refuse(message, ErrorCode.CLIENT_FAILED, reason)


def _receive(request: Request, message: Message, context: Context) -> Received:
    key, parts, trials = request.arrays_key, None, None
    if key in message.content and request.record != key:
        raise ProtocolError(f"two records of the message are called {key!r}")
    if request.action is Action.EVALUATE_PERSONAL:
        record = kept_record(context, PERSONAL)
        if record is None:
            reason = "this client keeps no personal model: personalise it first"
            raise LackingError(reason, ErrorCode.NOT_PERSONALISED)
        mask = find_mask(request, context)
    else:
        mask = find_mask(request, context)
        parts = unpack_parts(find_model(request, context), mask, request.down, request.rest)
        if request.trials is not None and request.action is Action.EVALUATE:
            trials = unpack_trials(request.trials, mask.count)
        remember_mask(mask, context)
        remember_model(request, context)
        record = _record_of(mask, parts)
    users = detached(message.content)
    show_request(context, users.config_records.pop(HEADER))
    given = RecordDict({key: record, **users})  # in the order of what FedAvg sends
    if request.config_key and request.config_key not in given:
        given[request.config_key] = ConfigRecord({"server-round": request.round})
    return Received(message, given, request, mask, parts, trials)


def _record_of(mask: Mask, parts: Parts) -> ArrayRecord:
    model = FlatModel(mask.scatter(parts.values), parts.rest, parts.other)
    return to_record(mask.layout.unflatten(model, copy=False))


def _join_metrics(content: RecordDict, said: Sequence[RecordDict]) -> None:
    """Let a metric that differs between trials be the list of what was said of each.

    One that is a list itself, such as an accuracy by class, is left out.
    """
    for name, metrics in content.metric_records.items():
        for key, value in list(metrics.items()):
            found = [one.metric_records[name][key] for one in said]
            if any(isinstance(one, list) for one in found):
                del metrics[key]
            elif any(one != value for one in found):
                metrics[key] = [float(one) for one in found]  # type: ignore[arg-type]


def _refuse(message: Message, code: ErrorCode, reason: str) -> Message:
    return Message(Error(int(code), reason[:_MAX_REASON]), reply_to=message)


sparse_mod = SparseMod()
"""The mod for apps that need no more than their node-config to be described."""
