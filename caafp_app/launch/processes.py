"""Ending every process that a run started, and no other.

A SuperLink, its SuperExec and Ray start dozens; some outlive their parents, some overwrite their
environment. So the first has a mark in its environment; whatever carries it, and whatever descends
from one that was seen to carry it, belongs to the run.

So that they end as well when the launcher dies, it holds the writing end of a pipe, and a watchdog
reads the other: also after ``kill -9`` the system closes the pipe.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from types import FrameType
from typing import TypeAlias

from caafp_app.launch.environment import flower_environment

log = getLogger(__name__)

Handler: TypeAlias = Callable[[int, FrameType | None], None] | signal.Handlers

MARK = "CAAFP_LAUNCH_ID"
_PROC = Path("/proc")
_END_SECONDS = 20.0


@dataclass(frozen=True)
class Process:
    """A process: its id, and the moment of its birth, because ids are used again."""

    pid: int
    born: str


class Family:
    """The processes whose ``CAAFP_LAUNCH_ID`` is a mark, unique to a run; and their descendants."""

    def __init__(self, mark: str) -> None:
        self._needle = f"{MARK}={mark}"
        self._known: set[Process] = set()

    def members(self) -> set[Process]:
        """Return the living members; those seen once are remembered."""
        parents = _living()
        pids = {process.pid: process for process in parents}
        carriers = _carriers(self._needle, pids)
        found = (self._known & parents.keys()) | carriers
        while True:
            young = {
                process
                for process, parent in parents.items()
                if process not in found and pids.get(parent) in found
            }
            if not young:
                break
            found |= young
        found = {process for process in found if process.pid != os.getpid()}
        self._known |= found
        return found

    def end(self, grace: float = 5.0) -> bool:
        """Ask all members to end, kill them after `grace` seconds; tell whether none is left."""
        _signal(self.members(), signal.SIGTERM)
        deadline = time.monotonic() + grace
        while (left := self.members()) and time.monotonic() < deadline:
            time.sleep(0.1)
        deadline = time.monotonic() + grace
        # Again and again: one that is killed may just have started another.
        while left and time.monotonic() < deadline:
            _signal(left, signal.SIGKILL)
            time.sleep(0.1)
            left = self.members()
        return not left


@contextlib.contextmanager
def _handled(numbers: Sequence[signal.Signals], handler: Handler) -> Iterator[None]:
    """Handle signals so until the block ends; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


def signals_as_exceptions() -> AbstractContextManager[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that what stands in a `finally` is done."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    return _handled((signal.SIGTERM, signal.SIGHUP), leave)


def interrupts_ignored() -> AbstractContextManager[None]:
    """Let nobody interrupt the cleaning up."""
    return _handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)


def _signal(processes: set[Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def _living() -> dict[Process, int]:
    """Return every process that is not a zombie, with the id of its parent."""
    found = {}
    if not _PROC.is_dir():
        for line in _ps("pid=,ppid=,stat=,lstart="):
            pid, parent, state, born = line.split(maxsplit=3)
            if not state.startswith("Z"):
                found[Process(int(pid), born)] = int(parent)
        return found
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # ended meanwhile
        # The name, in brackets, may hold blanks and brackets itself: count from the last one.
        state, parent, *rest = stat.rpartition(")")[2].split()
        if state not in "ZX":
            found[Process(int(folder.name), rest[17])] = int(parent)
    return found


def _carriers(needle: str, pids: dict[int, Process]) -> set[Process]:
    if not _PROC.is_dir():
        # `ps -E` shows the environment after the command, of one's own processes.
        carrying = {
            int(line.split(maxsplit=1)[0]) for line in _ps("pid=,command=", "-E") if needle in line
        }
        return {pids[pid] for pid in carrying & pids.keys()}
    found = set()
    for pid, process in pids.items():
        with contextlib.suppress(OSError):
            if needle.encode() in (_PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                found.add(process)
    return found


def _ps(columns: str, *options: str) -> list[str]:
    command = ["ps", "-axww", *options, "-o", columns]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line for line in listing.stdout.splitlines() if line.strip()]


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
