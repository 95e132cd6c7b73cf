"""Executing the runs of a bench: so many at once, each in a process of its own."""

import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from caafp_app.bench.file import Case
from caafp_app.bench.place import BenchFolder
from caafp_app.errors import CaafpError, RunError, SettingsError
from caafp_app.launch.beforehand import check_simulation
from caafp_app.launch.plan import count_supernodes
from caafp_app.launch.presets import to_toml
from caafp_app.launch.processes import guarded, signals_as_exceptions

Job = tuple[Case, int]
"""A case and a seed."""

_LOOK_SECONDS = 0.2
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Ended:
    """How one run ended: after how many seconds, and what went wrong (empty for a success)."""

    case: Case
    seed: int
    seconds: float
    complaint: str = ""


@dataclass
class _Running:
    case: Case
    seed: int
    process: subprocess.Popen[bytes]
    guard: ExitStack
    began: float = field(default_factory=time.monotonic)


def client_cpus(jobs: int, cores: int | None = None) -> int:
    """Return how many cores a client is to occupy, so that `jobs` runs share the machine.

    With ``c`` cores a client of ``c // (c // jobs)`` of them leaves each run its share.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    found = cores or (len(affinity(0)) if affinity else os.cpu_count() or 1)
    if jobs > found:
        raise SettingsError(f"--jobs: expected at most the {found} cores here, found {jobs}")
    return found // (found // jobs)


def check_queue(queue: Sequence[Job], folder: BenchFolder, *, fetch: bool = True) -> list[str]:
    """Check the runs before any is started; return notes of what may be a mistake.

    Raises what `caafp_app.launch.beforehand` raises, with the name of the case.
    """
    notes: dict[str, list[str]] = {}
    for case in dict.fromkeys(case for case, _ in queue):
        try:
            results = folder.finished(case, 0)
            # What all cases share is often meant for some of them alone.
            given = case.varied.keys()
            checked = check_simulation(case.settings, results, given=given, fetch=fetch)
        except CaafpError as error:
            raise type(error)(f"case {case.name!r}: {error}") from error
        for note in checked.notes:
            notes.setdefault(note, []).append(case.name)
    return [f"{', '.join(names)}: {note}" for note, names in notes.items()]


def execute(
    queue: Sequence[Job],
    folder: BenchFolder,
    *,
    jobs: int = 1,
    in_process: bool = False,
    look: Callable[[list[Job]], None] = lambda running: None,
) -> Generator[Ended, None, None]:
    """Run the queue, at most `jobs` at once, and yield each run as it ends.

    A run that fails does not stop the others. Close the generator if it is not used up: what runs
    is ended then. `look` is called several times a second with what is running.
    """
    cpus, waiting, running = client_cpus(jobs), deque(queue), list[_Running]()
    with signals_as_exceptions():
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    case, seed = waiting.popleft()
                    try:
                        running.append(_start(case, seed, folder, cpus, in_process))
                    except (OSError, RunError) as error:
                        yield Ended(case, seed, 0.0, str(error))
                look([(one.case, one.seed) for one in running])
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    yield _end(one, folder)
                time.sleep(_LOOK_SECONDS)
        finally:
            _stop(running)


def _start(case: Case, seed: int, folder: BenchFolder, cpus: int, in_process: bool) -> _Running:
    folder.clear(case, seed)
    log = folder.log(case, seed)
    config = log.with_suffix(".toml")
    config.write_text(to_toml(folder.settings(case, seed)), encoding="utf-8")
    guard = ExitStack()
    environment = guard.enter_context(guarded())
    stream = guard.enter_context(log.open("wb"))
    process = subprocess.Popen(
        command(case, config, cpus, in_process),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=subprocess.STDOUT,
        # Ctrl-C in the terminal must reach us alone: we end the runs in order.
        start_new_session=True,
    )
    return _Running(case, seed, process, guard)


def command(case: Case, config: Path, cpus: int, in_process: bool) -> list[str]:
    """Return the command line of one run, whose settings the TOML file `config` holds."""
    if in_process:
        nodes = count_supernodes(case.settings, None)
        module = ["caafp_app.bench", str(config), str(nodes), str(cpus)]
    else:
        module = ["caafp_app.cli", "run", str(config), "--json", "--client-cpus", str(cpus)]
    return [sys.executable, "-m", *module]


def _end(one: _Running, folder: BenchFolder) -> Ended:
    one.guard.close()
    seconds = time.monotonic() - one.began
    log = folder.log(one.case, one.seed)
    if one.process.returncode:
        lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines()]
        ours = [line for line in lines if line.startswith("caafp: ")]
        said = (ours or [line for line in lines if line] or ["it said nothing"])[-1][:500]
        return Ended(one.case, one.seed, seconds, f"{said} (all of it: {log})")
    try:
        folder.keep(one.case, one.seed)
    except RunError as error:
        return Ended(one.case, one.seed, seconds, f"{error} ({log})")
    log.with_suffix(".toml").unlink(missing_ok=True)
    return Ended(one.case, one.seed, seconds)


def _stop(running: Sequence[_Running]) -> None:
    """End what still runs: each is asked, ends what it started, and is killed if it does not."""
    for one in running:
        one.process.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    for one in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.process.wait(timeout=max(0.1, deadline - time.monotonic()))
        one.guard.close()
        one.process.wait()
