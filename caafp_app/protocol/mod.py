"""`sparse_mod`: the client's half of the protocol, for any ClientApp.

Add it to the mods of a ClientApp written for FedAvg. The app keeps receiving an ordinary dense
ArrayRecord and keeps returning one; the mod unpacks what arrives, puts the mask back on what the
app returns, and sends the update at active positions alone. Messages of other strategies pass
untouched.
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from logging import ERROR

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.logger import log

from caafp_app.errors import ProtocolError
from caafp_app.protocol.held import (
    MaskUnknownError,
    keep_text,
    kept_record,
    kept_text,
    resolve_mask,
)
from caafp_app.protocol.messages import (
    ARRAYS,
    Action,
    Answer,
    ErrorCode,
    Request,
    is_ours,
    to_record,
)
from caafp_app.protocol.packing import unpack_model
from caafp_app.protocol.trained import pack_training, strip_records


@dataclass(frozen=True)
class Description:
    """What a client says of itself before the first round.

    Attributes
    ----------
    label : str
        A name that stays the same over runs and restarts; everything the server keeps is keyed
        by it.
    examples : int
        Training examples; -1 if unknown.
    population : int
        How many clients the data naturally has; -1 if unknown.
    idle : str
        Why this client takes no part, e.g. that it has no data; empty if it does.
    """

    label: str
    examples: int = -1
    population: int = -1
    idle: str = ""


def describe_node(context: Context) -> Description:
    """Name a client by its node-config: ``label``, else ``partition-id``, else its node id.

    The node id is random and changes when a SuperNode is registered anew, so give devices a
    ``label`` in their node-config.
    """
    config = context.node_config
    if "label" in config:
        return Description(str(config["label"]))
    if "partition-id" in config:
        return Description(f"part-{int(config['partition-id']):04d}")
    return Description(f"node-{context.node_id:x}")


class SparseMod:
    """The mod as an object, for apps that describe themselves.

    Parameters
    ----------
    describe : callable
        ``describe(context) -> Description``. Called once per run, in a process that should stay
        light: import no training framework in it.
    """

    def __init__(self, describe: Callable[[Context], Description] = describe_node) -> None:
        self.describe = describe

    def __call__(
        self, message: Message, context: Context, call_next: ClientAppCallable
    ) -> Message:
        """Serve one message; whatever goes wrong becomes an error reply with a reason."""
        if not message.has_content() or not is_ours(message.content):
            return call_next(message, context)
        try:
            request = Request.from_records(message.content)
            return self._serve(request, message, context, call_next)
        except MaskUnknownError as error:
            return _refuse(message, ErrorCode.MASK_UNKNOWN, str(error))
        except ProtocolError as error:
            return _refuse(message, ErrorCode.BAD_REQUEST, str(error))

    def _serve(
        self, request: Request, message: Message, context: Context, call_next: ClientAppCallable
    ) -> Message:
        if request.action is Action.DESCRIBE:
            return self._answer_describe(request, message, context)
        if request.action is Action.EVALUATE_PERSONAL:
            record = kept_record(context, "personal")
            if record is None:
                reason = "this client keeps no personal model: personalise it first"
                return _refuse(message, ErrorCode.NOT_PERSONALISED, reason)
            mask, received = resolve_mask(request, context), None
        else:
            mask = resolve_mask(request, context)
            received = unpack_model(request.arrays, mask, request.down, request.rest)
            record = to_record(mask.layout.unflatten(received))
        inner = RecordDict({request.arrays_key: record})
        for name, value in message.content.items():
            if name != ARRAYS:
                inner[name] = value
        message.content = inner
        try:
            reply = call_next(message, context)
        except Exception as error:  # the app's own code: any error of it is an error reply
            log(ERROR, "ClientApp raised:\n%s", traceback.format_exc())
            return _refuse(message, ErrorCode.CLIENT_FAILED, f"{type(error).__name__}: {error}")
        if not reply.has_content():
            return reply
        answer = Answer(request.action, request.round, self._label(context), mask.digest)
        if received is not None and request.action in (Action.TRAIN, Action.PERSONALISE):
            answer = pack_training(request, reply, received, mask, context, answer)
        strip_records(reply.content, request.arrays_key)
        for name, value in answer.to_records().items():
            reply.content[name] = value
        return reply

    def _answer_describe(self, request: Request, message: Message, context: Context) -> Message:
        description = self.describe(context)
        keep_text(context, "label", description.label)
        answer = Answer(
            Action.DESCRIBE,
            request.round,
            description.label,
            examples=description.examples,
            population=description.population,
            idle=description.idle,
        )
        return Message(answer.to_records(), reply_to=message)

    def _label(self, context: Context) -> str:
        label = kept_text(context, "label")
        if not label:
            label = self.describe(context).label
            keep_text(context, "label", label)
        return label


def _refuse(message: Message, code: ErrorCode, reason: str) -> Message:
    return Message(Error(int(code), reason), reply_to=message)


sparse_mod = SparseMod()
"""The mod for apps that need no more than their node-config to be described."""
