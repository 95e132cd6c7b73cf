"""What a run waits for before its first round: said again and again, and given up in the end."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from caafp_app.errors import RunError

_SAY_SECONDS = 20.0


@dataclass(frozen=True)
class Waiting:
    """What a run waits for before its first round, in words, and how long it may."""

    what: str
    over: Callable[[], bool]
    seconds: float


class Patience:
    """Says again and again what is waited for (None: nothing), and gives up at the deadline."""

    def __init__(self, waiting: Waiting | None) -> None:
        self._waiting = waiting
        self._began = time.monotonic()
        self._say_after = _SAY_SECONDS

    def look(self, echo: Callable[[str], None]) -> None:
        """Say what is waited for, where it is time to; raise RunError after the deadline."""
        if self._waiting is None:
            return
        if self._waiting.over():
            self._waiting = None
            return
        waited = time.monotonic() - self._began
        what, most = self._waiting.what, self._waiting.seconds
        if waited > most:
            raise RunError(f"expected {what} within {most:.0f} s, found none")
        if waited > self._say_after:
            self._say_after *= 2.0
            echo(f"waiting for {what} ({waited:.0f} s so far, at most {most:.0f} s)")
