"""One ``flwr run``: started, streamed, and asked how it ended.

The stream of ``flwr run`` ends with exit code 0 however the run went, so the SuperLink is asked.
"""

import contextlib
import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from caafp_app.errors import RunError
from caafp_app.launch.superlink import Connection, executable

_STARTED = re.compile(r"Successfully started run (\d+)")
_ASK_SECONDS = 60.0
_FINISHED_SECONDS = 15.0
_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    run_id : int
        Flower's number of it.
    status : str
        Flower's word: ``finished:completed``, ``finished:failed``, ``finished:stopped`` ...
    details : str
        Flower's reason for a failure; may be empty.
    """

    run_id: int
    status: str
    details: str

    @property
    def succeeded(self) -> bool:
        """Whether the run came to its end by itself."""
        return self.status == "finished:completed"


def run_command(
    app: Path, connection: Connection, run_config: Path, federation_config: str | None
) -> list[str]:
    """Return the ``flwr run`` command line.

    Parameters
    ----------
    app : Path
        Folder of the app.
    connection : Connection
        Where to send it.
    run_config : Path
        TOML file with the settings.
    federation_config : str | None
        Simulation options as ``key=value`` pairs; None where SuperNodes are real.
    """
    command = [executable("flwr"), "run", str(app)]
    command += [connection.name] if connection.name else []
    command += ["--run-config", str(run_config)]
    command += ["--federation-config", federation_config] if federation_config else []
    return [*command, "--stream"]


def printable(command: list[str]) -> str:
    """Return a command line as one would type it."""
    return shlex.join([Path(command[0]).name, *command[1:]])


def follow(command: list[str], connection: Connection, echo: Callable[[str], None]) -> Outcome:
    """Run a ``flwr run --stream`` command to its end, hand on its lines, and ask how it went.

    Parameters
    ----------
    command : list[str]
        From :func:`run_command`.
    connection : Connection
        The one that the command names.
    echo : Callable[[str], None]
        Takes each line, without its end.

    Raises
    ------
    RunError
        The run was never started.
    KeyboardInterrupt, SystemExit
        Handed on after the run was stopped.
    """
    run_id: int | None = None
    with subprocess.Popen(
        command,
        env=connection.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            # `iter(readline)`: no waiting for a block to fill.
            for line in iter(process.stdout.readline, "") if process.stdout else ():
                echo(line.rstrip("\n"))
                if run_id is None and (match := _STARTED.search(line)):
                    run_id = int(match[1])
        except BaseException:
            process.kill()
            if run_id is not None:
                echo(f"Stopping run {run_id} ...")
                stop(run_id, connection)
            raise
    if run_id is None:
        raise RunError(
            f"expected `flwr run` to start the run, but it ended with code {process.returncode}; "
            "its words stand above"
        )
    return ask(run_id, connection)


def ask(run_id: int, connection: Connection) -> Outcome:
    """Ask the SuperLink for the state of a run, and wait a little for one that just ends.

    Raises
    ------
    RunError
        The SuperLink did not say.
    """
    deadline = time.monotonic() + _FINISHED_SECONDS
    while True:
        row = _row(run_id, connection)
        details = str(row.get("status-details", "")).replace("N/A", "")
        outcome = Outcome(run_id, str(row.get("status", "")), details)
        if outcome.status.startswith("finished") or time.monotonic() > deadline:
            return outcome
        time.sleep(0.5)


def _row(run_id: int, connection: Connection) -> dict[str, object]:
    command = [executable("flwr"), "ls", *([connection.name] if connection.name else [])]
    command += ["--run-id", str(run_id), "--format", "json"]
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
    command = [executable("flwr"), "stop", str(run_id)]
    command += [connection.name] if connection.name else []
    with contextlib.suppress(RunError):
        _flwr(command, connection, _STOP_SECONDS)


def _flwr(command: list[str], connection: Connection, seconds: float) -> str:
    try:
        result = subprocess.run(
            command,
            env=connection.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(
            f"expected an answer to `{printable(command)}` within {seconds:.0f} s, found none"
        ) from error
    return result.stdout
