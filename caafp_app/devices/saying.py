"""What a device's log says of a message: one line, in the words of its owner.

A mod, put before all others: it sees the message as it came and the reply as it goes.
"""

import logging
import math
import time

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from caafp_app.protocol.messages import Action
from caafp_app.runs.size import HEADER, message_bytes

_NAMES = {action.value for action in Action}
_logger = logging.getLogger("flwr")


def say(message: Message, context: Context, answer: ClientAppCallable) -> Message:
    """Answer, and log what was asked and answered; clients of a simulation keep quiet."""
    if "data-path" not in context.node_config:
        return answer(message, context)
    # Before: a mod may change the records that it is handed.
    asked, received = _asked(message), sum(message_bytes(message).values())
    began = time.monotonic()
    reply = answer(message, context)
    seconds = time.monotonic() - began
    sent = sum(message_bytes(reply).values())
    size = f"{received / 1e3:.1f} kB received, {sent / 1e3:.1f} kB sent"
    if reply.has_error():
        reason = (reply.error.reason or "").encode("unicode_escape").decode()
        _logger.warning("%s: error %d: %s; %.1f s", asked, reply.error.code, reason, seconds)
    else:
        told = ", ".join([*_told(reply.content), f"{seconds:.1f} s", size])
        _logger.info("%s: %s", asked, told)
    return reply


def _asked(message: Message) -> str:
    """Name what is asked; nothing that a server wrote is shown but what is known here."""
    header = message.content.config_records.get(HEADER) or ConfigRecord()
    action, number = header.get("action"), header.get("round")
    if action not in _NAMES:
        kinds = (MessageType.TRAIN, MessageType.EVALUATE, MessageType.QUERY)
        kind = message.metadata.message_type
        action = kind if kind in kinds else "message"
    return f"round {number}, {action}" if isinstance(number, int) and number else str(action)


def _told(content: RecordDict) -> list[str]:
    metrics = {
        k: value for record in content.metric_records.values() for k, value in record.items()
    }

    def number(name: str) -> float | None:
        value = metrics.get(name)
        return value if isinstance(value, int | float) and math.isfinite(value) else None

    told = []
    if (windows := number("num-examples")) is not None:
        told.append(f"{windows:.0f} windows")
    before, after = number("cluster-accuracy"), number("personal-accuracy")
    if before is not None and after is not None:
        told.append(f"accuracy {100 * before:.1f} % before, {100 * after:.1f} % after")
    elif before is not None:
        told.append(f"accuracy of the received model {100 * before:.1f} %")
    if (loss := number("train-loss")) is not None:
        told.append(f"training loss {loss:.3f}")
    return told
