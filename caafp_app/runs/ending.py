"""Being told to end: SIGTERM as a question that a run asks when it can answer."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def told_to_end() -> Iterator[Callable[[], bool]]:
    """Take note of SIGTERM while this context lasts, and yield what tells whether it came.

    Only the main thread may set signal handlers; in another one (Flower's simulation) nothing is
    set, and nobody tells.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event.is_set
        return

    def note(number: int, frame: FrameType | None) -> None:
        event.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield event.is_set
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
