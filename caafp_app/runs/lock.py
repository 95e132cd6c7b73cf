"""One writer to a folder: a second process is kept out for as long as the first one lives."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from caafp_app.errors import SettingsError


@contextlib.contextmanager
def sole_writer(folder: Path, otherwise: str) -> Iterator[None]:
    """Hold a folder; nothing is left in it, and a process that is killed lets go of it.

    Where another process holds it, `otherwise` is the message of the SettingsError. On Windows, and
    where a file system knows no locks, nobody is kept out.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(otherwise) from error
        except OSError:
            pass  # a network file system without locks
        yield
    finally:
        os.close(descriptor)
