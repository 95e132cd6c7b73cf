"""Ending what a run started when its launcher dies, however it dies.

The launcher holds the writing end of a pipe, and the watchdog reads the other. When the launcher is
gone, also by ``kill -9``, the system closes the pipe.
"""

import contextlib
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from logging import getLogger
from pathlib import Path

from caafp_app.launch.environment import flower_environment
from caafp_app.launch.processes import MARK, Family, interrupts_ignored

log = getLogger(__name__)

_END_SECONDS = 20.0


@contextlib.contextmanager
def guarded(folder: Path | None = None) -> Iterator[dict[str, str]]:
    """Yield an environment whose processes end with the block; then remove a scratch folder.

    They end as well where this process dies within the block.
    """
    mark = uuid.uuid4().hex
    family = Family(mark)
    watchdog = subprocess.Popen(
        [sys.executable, "-m", __name__, mark, *([str(folder)] if folder else [])],
        env=flower_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Neither Ctrl-C nor the end of the terminal may reach it before us.
        start_new_session=True,
    )
    try:
        yield flower_environment() | {MARK: mark}
    finally:
        with interrupts_ignored():
            if not family.end():
                left = sorted(process.pid for process in family.members())
                log.warning("some processes could not be ended: %s", left)
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            if watchdog.stdin is not None:
                watchdog.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                watchdog.wait(_END_SECONDS)


def main(mark: str, folder: str = "") -> None:
    """Wait for the end of standard input, then end the processes of `mark`."""
    sys.stdin.buffer.read()
    Family(mark).end()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
