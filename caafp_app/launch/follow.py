"""One ``flwr run``: started, streamed, and asked how it ended.

The stream of ``flwr run`` ends with exit code 0 however the run went, so the SuperLink is asked.
"""

import contextlib
import json
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue

from caafp_app.errors import RunError
from caafp_app.launch.superlink import Connection

_STARTED = re.compile(r"Successfully started run (\d+)")
# What Flower says of every simulation, and what nobody can use: its federation is told its size.
_IDLE_TALK = re.compile(
    r"Since flwr 1\.32|To change federation size|flwr federation simulation-config"
)
_ASK_SECONDS = 60.0
_ASK_TIMES = 5
_FINISHED_SECONDS = 15.0
_HAND_OVER = 600.0
LINGER_SECONDS = 30.0
_SUCCESS = "finished:completed"
_FAILURE = "finished:failed"
_STOP_SECONDS = 15.0
_SAY_SECONDS = 20.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended: Flower's number of it, its word for the end, its reason for a failure."""

    run_id: int
    status: str
    details: str

    @property
    def succeeded(self) -> bool:
        """Whether the run came to its end by itself."""
        return self.status == _SUCCESS

    @property
    def complaint(self) -> str:
        """What went wrong; empty for a success."""
        said = f"the run ended as {self.status}. {self.details}".rstrip()
        return "" if self.succeeded else said


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


def run_command(
    app: Path, connection: Connection, run_config: Path, federation_config: str | None
) -> list[str]:
    """Return the ``flwr run`` command line; no `federation_config` where SuperNodes are real."""
    flags = ["--run-config", str(run_config)]
    flags += ["--federation-config", federation_config] if federation_config else []
    return connection.command("run", str(app), flags=[*flags, "--stream"])


def printable(command: list[str]) -> str:
    """Return a command line as one would type it."""
    return shlex.join([Path(command[0]).name, *command[1:]])


def follow(
    command: list[str],
    connection: Connection,
    echo: Callable[[str], None],
    waiting: Waiting | None = None,
    ended: Callable[[], str | None] = lambda: None,
) -> Outcome:
    """Run a ``flwr run --stream`` command to its end, hand on its lines, and ask how it went.

    The run is stopped where what it is `waiting` for does not come, and by an interrupt. `ended`
    returns None until the server has ended the run, then "" or why it ended early: clients may
    still train for a round that is over, maybe for hours, and the run is then stopped too.
    """
    run_id: int | None = None
    with subprocess.Popen(
        command,
        env=connection.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        lines: Queue[str | None] = Queue()
        threading.Thread(target=_read_lines, args=(process, lines), daemon=True).start()
        patience = Patience(Waiting("`flwr run` to hand over the app", lambda: False, _HAND_OVER))
        try:
            over = 0.0
            while (line := _next(lines, patience, echo)) is not None:
                if run_id is not None and (reason := ended()) is not None:
                    over = over or time.monotonic()
                    if time.monotonic() - over > LINGER_SECONDS:
                        echo("the run has ended; stopping clients that still train for it")
                        process.kill()
                        stop(run_id, connection)
                        return Outcome(run_id, _FAILURE if reason else _SUCCESS, reason)
                if not line:
                    continue
                if not _IDLE_TALK.search(line):
                    echo(line)
                if run_id is None and (match := _STARTED.search(line)):
                    run_id = int(match[1])
                    patience = Patience(waiting)
            if run_id is not None:
                return ask(run_id, connection, echo)
        except BaseException:
            process.kill()
            if run_id is not None:
                echo(f"Stopping run {run_id} ...")
                stop(run_id, connection)
            raise
    raise RunError(
        f"expected `flwr run` to start the run, but it ended with code {process.returncode}; "
        "what it said stands above"
    )


def _read_lines(process: "subprocess.Popen[str]", lines: "Queue[str | None]") -> None:
    # `iter(readline)`: no waiting for a block to fill.
    for line in iter(process.stdout.readline, "") if process.stdout else ():
        lines.put(line.rstrip("\n"))
    lines.put(None)


def _next(
    lines: "Queue[str | None]", patience: Patience, echo: Callable[[str], None]
) -> str | None:
    """Return the next line; an empty one after a while without any, None at the end."""
    patience.look(echo)
    try:
        return lines.get(timeout=0.5)
    except Empty:
        return ""


def ask(
    run_id: int, connection: Connection, echo: Callable[[str], None] = lambda line: None
) -> Outcome:
    """Ask the SuperLink until the run has ended, however long that is: its log may end before.

    `echo` takes a line, once, where it goes on so. RunError if the SuperLink did not say, several
    times.
    """
    began, failures, told = time.monotonic(), 0, False
    while True:
        try:
            row, failures = _row(run_id, connection), 0
        except RunError:
            failures += 1
            if failures >= _ASK_TIMES:
                raise
            row = {}
        details = str(row.get("status-details", "")).replace("N/A", "")
        outcome = Outcome(run_id, str(row.get("status", "")), details)
        if outcome.status.startswith("finished"):
            return outcome
        late = time.monotonic() - began > _FINISHED_SECONDS
        if late and row and not told:
            told = True
            log = printable(connection.command("log", str(run_id)))
            echo(
                f"the log has ended, but the run has not ({outcome.status}); waiting for its end. "
                f"To see its log: {log}"
            )
        time.sleep(5.0 if late else 0.5)


def _row(run_id: int, connection: Connection) -> dict[str, object]:
    command = connection.command("ls", flags=["--run-id", str(run_id), "--format", "json"])
    answer = _flwr(command, connection, _ASK_SECONDS)
    try:
        # Flower may say something before the JSON.
        rows = json.JSONDecoder().raw_decode(answer, answer.index("{"))[0]["runs"]
        row: dict[str, object] = rows[0]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise RunError(
            f"expected the SuperLink to know run {run_id}, found: {answer.strip() or 'no answer'}"
        ) from error
    return row


def stop(run_id: int, connection: Connection) -> None:
    """Stop a run; one that cannot be reached any more is let go."""
    with contextlib.suppress(RunError):
        _flwr(connection.command("stop", str(run_id)), connection, _STOP_SECONDS)


def _flwr(command: list[str], connection: Connection, seconds: float) -> str:
    try:
        result = subprocess.run(
            command,
            env=connection.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(
            f"expected an answer to `{printable(command)}` within {seconds:.0f} s, found none"
        ) from error
    return result.stdout
