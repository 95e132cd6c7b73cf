"""A run that is stopped while one of its messages arrives at a device.

Flower says so by an exception that is no `Exception`, which its clean-up after a failed message
therefore does not catch. The message and its task stay behind. If a part is missing, the task looks
for it for hours; if nothing is, its reply is sent in place of the next one, and from then on every
reply waits for the message after its own: the device looks dead to a server that waits for it.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

_LOOP = "flwr.supernode.start_client_internal"
_CALLS = ("pull_object", "confirm_message_received")
"""What brings a message, and may be refused because its run has ended."""


def forget_stopped_messages() -> None:
    """Let the SuperNode of this process drop a message whose run ends while it arrives."""
    loop: Any = importlib.import_module(_LOOP)
    receive = loop._pull_and_store_message

    @functools.wraps(receive)
    def with_clean_up(**words: Any) -> Any:
        return receive(**{**words, **{name: _as_failure(words[name]) for name in _CALLS}})

    loop._pull_and_store_message = with_clean_up


def _as_failure(call: Callable[..., Any]) -> Callable[..., Any]:
    from flwr.supercore.run import RunNotRunningException

    @functools.wraps(call)
    def called(*values: Any) -> Any:
        try:
            return call(*values)
        except RunNotRunningException as error:
            raise RuntimeError("its run has ended") from error

    return called
