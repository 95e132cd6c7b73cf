"""How often a SuperNode asks its SuperLink for messages: often during a run, seldom between runs.

Flower's loop sleeps 3 s between two questions, and half a second between two looks for the reply of
its own task. In a run of short rounds that is most of a round. The loop sleeps by ``time.sleep`` of
its module; the object here stands in its place.
"""

import importlib
import time
from typing import Any

BUSY_SECONDS = 60.0
"""How long after a message the next one is expected."""
QUICK, REPLY = 0.5, 0.05
"""Seconds between two questions to the SuperLink then, and between two looks for a reply."""


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


def quicken() -> None:
    """Let the SuperNode of this process ask more often while a run goes on."""
    loop: Any = importlib.import_module("flwr.supernode.start_client_internal")
    loop.time = Pace()
