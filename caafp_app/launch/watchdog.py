"""Ending what a run started when its launcher dies, however it dies.

The launcher holds the writing end of a pipe, and the watchdog reads the other. When the launcher is
gone, also by ``kill -9``, the system closes the pipe. The watchdog then ends the run's processes
and removes its scratch folder. After an ordinary end there is nothing left for it to do.
"""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from caafp_app.launch.environment import flower_environment
from caafp_app.launch.processes import Family

_END_SECONDS = 20.0


@contextlib.contextmanager
def watchdog(mark: str, folder: Path | None = None) -> Iterator[None]:
    """Watch over the processes of a mark until the block ends; remove a scratch folder as well."""
    command = [sys.executable, "-m", "caafp_app.launch.watchdog", mark]
    process = subprocess.Popen(
        [*command, *([str(folder)] if folder else [])],
        env=flower_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Neither Ctrl-C nor the end of the terminal may reach it before us.
        start_new_session=True,
    )
    try:
        yield
    finally:
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)


def main(mark: str, folder: str = "") -> None:
    """Wait for the end of standard input, then end the processes of `mark`."""
    sys.stdin.buffer.read()
    Family(mark).end()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
