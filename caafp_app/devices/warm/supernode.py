"""What a warm device changes in the loop of Flower's SuperNode, where that is as expected.

The loop sleeps 3 s between two questions to the SuperLink, and half a second between two looks for
the reply of its own task: most of a short round. It sleeps by ``time.sleep`` of its module; `Pace`
stands in that one's place.

When a run is stopped while one of its messages arrives, Flower says so by an exception that is no
`Exception`, which its clean-up after a failed message therefore does not catch. The message and its
task stay behind. If a part is missing, the task looks for it for hours; if nothing is, its reply is
sent in place of the next one, and so on: the device looks dead to a server that waits for it.
"""

import functools
import importlib
import time
from collections.abc import Callable
from typing import Any

from caafp_app.devices.warm.compatibility import parameters_of

BUSY_SECONDS = 60.0
"""How long after a message the next one is expected."""
QUICK, REPLY = 0.5, 0.05
"""Seconds between two questions to the SuperLink then, and between two looks for a reply."""
_LOOP = "flwr.supernode.start_client_internal"
_CALLS = ("pull_object", "confirm_message_received")
"""What brings a message, and may be refused because its run has ended."""


class Pace:
    """Stands for the module `time` in the SuperNode's loop."""

    def __init__(self) -> None:
        self._last_message = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Sleep as long as the loop asks, or less; its short pause is the one for a task."""
        now = time.monotonic()
        if seconds < 1.0:
            self._last_message = now
            time.sleep(min(seconds, REPLY))
        else:
            busy = now - self._last_message < BUSY_SECONDS
            time.sleep(min(seconds, QUICK) if busy else seconds)


def quicken() -> bool:
    """Let the SuperNode of this process ask more often while a run goes on; tell whether it can."""
    loop: Any = importlib.import_module(_LOOP)
    if getattr(loop, "time", None) is not time:
        return False
    loop.time = Pace()
    return True


def forget_stopped_messages() -> bool:
    """Let this SuperNode drop a message whose run ends while it arrives; tell whether it can."""
    loop: Any = importlib.import_module(_LOOP)
    receive = getattr(loop, "_pull_and_store_message", None)
    if receive is None or not parameters_of(receive).issuperset(_CALLS):
        return False

    @functools.wraps(receive)
    def with_clean_up(**words: Any) -> Any:
        return receive(**{**words, **{name: _as_failure(words[name]) for name in _CALLS}})

    loop._pull_and_store_message = with_clean_up
    return True


def _as_failure(call: Callable[..., Any]) -> Callable[..., Any]:
    from flwr.supercore.run import RunNotRunningException

    @functools.wraps(call)
    def called(*values: Any) -> Any:
        try:
            return call(*values)
        except RunNotRunningException as error:
            raise RuntimeError("its run has ended") from error

    return called
