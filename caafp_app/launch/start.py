"""A whole run: on a private SuperLink for a simulation, or on one that the user has."""

import re
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from caafp_app.errors import RunError
from caafp_app.launch.environment import flower_environment, ray_in_words
from caafp_app.launch.follow import Waiting, follow, printable, run_command
from caafp_app.launch.plan import Machine, named, placed
from caafp_app.launch.presets import to_toml
from caafp_app.launch.source import app_folder
from caafp_app.launch.superlink import Connection, private_superlink
from caafp_app.runs.checkpoint import FOLDER, last_round
from caafp_app.runs.live import LiveReader
from caafp_app.runs.place import is_reserved, release_folder, reserve_folder
from caafp_app.settings import Settings

Say = Callable[[str], None]

# The app's last word, on a line of its server's log. The folder is on the SuperLink's machine, and
# has the name that was chosen here.
_RESULTS = re.compile(r"(?:INFO\s*:\s*)?results: (\S.*?)\s*")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_FIRST_REPLY_SECONDS = 600.0


@dataclass(frozen=True)
class End:
    """How a run ended.

    `results` is the run directory, where there is one. `complaint` is empty for a success. `saved`
    is the round of the last checkpoint of a run that can go on; 0 where none can.
    """

    results: str | None = None
    complaint: str = ""
    saved: int = 0


def has_begun(results: Path) -> bool:
    """Tell whether a client has answered, or the server has given up waiting for one."""
    try:
        return (results / "rounds.jsonl").stat().st_size > 0
    except OSError:
        return False


def end_of(results: Path, complaint: str) -> End:
    """Return how a run on this machine ended.

    `complaint` is what Flower says went wrong. A run that says it has ended well and left no
    summary has failed all the same.
    """
    if not results.is_dir() or is_reserved(results):
        return End(None, complaint or f"the run ended, but has left nothing in {results}")
    saved = last_round(results / FOLDER)
    if not complaint and not (results / "summary.json").is_file():
        complaint = f"the run ended, but expected {results / 'summary.json'}, found nothing"
    return End(str(results), complaint, saved)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or a signal to end, during a run; a command ends with `status`."""

    def __init__(self, end: End, status: int = 130) -> None:
        super().__init__(end.complaint)
        self.end = end
        self.status = status


def simulate(settings: Settings, machine: Machine, say: Say) -> End:
    """Run a simulation: on a SuperLink that is started for it, or by our engine in this process.

    The settings have been checked by `caafp_app.launch.beforehand`. The run's folder is made here
    and handed to the server. `say` takes the command and each line of the run. Raises SettingsError
    if there cannot be a run directory, RunError if the run did not start, Interrupted by Ctrl-C.
    """
    settings, results = placed(settings, datetime.now())
    if not settings.run.resume_from:
        results = reserve_folder(results.name, settings.run.output_dir)
        settings = replace(settings, run=replace(settings.run, run_name=results.name))
    by = _on_a_superlink if settings.run.engine == "ray" else _in_this_process
    try:
        return end_of(results, by(settings, machine, results, say))
    except KeyboardInterrupt as interrupt:
        raise Interrupted(end_of(results, "stopped")) from interrupt
    except SystemExit as told:  # SIGTERM or SIGHUP
        status = told.code if isinstance(told.code, int) else 1
        raise Interrupted(end_of(results, "stopped"), status) from told
    finally:
        release_folder(results)


def _on_a_superlink(settings: Settings, machine: Machine, results: Path, say: Say) -> str:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="caafp-run-")))
        say("starting a SuperLink for this run ...")
        connection = stack.enter_context(private_superlink())
        command = announced(settings, scratch, connection, machine, say)
        waiting = Waiting(
            f"{ray_in_words(connection.environment)} to start, and a client to answer",
            lambda: has_begun(results),
            _FIRST_REPLY_SECONDS,
        )
        reader = LiveReader(results)
        reader.read().ended = None  # what a run said that this one goes on with
        outcome = follow(command, connection, say, waiting, lambda: reader.read().ended)
        return reader.read().ended or outcome.complaint


def _in_this_process(settings: Settings, machine: Machine, results: Path, say: Say) -> str:
    from caafp_app.engine.run import simulate as simulate_here

    try:
        simulate_here(settings, machine.supernodes or 0, machine.client_cpus)
    except RunError as error:
        return str(error)
    return ""


def deploy(settings: Settings, name: str, say: Say) -> End:
    """Run on real SuperNodes, by a connection of the user's own Flower configuration.

    Paths in the settings are the nodes' own and are left as they are.
    """
    settings = named(settings, datetime.now())
    told: list[str] = []

    def listen(line: str) -> None:
        say(line)
        match = _RESULTS.fullmatch(_COLOURS.sub("", line))
        if match and Path(match[1]).name.startswith(settings.run.run_name):
            told.append(match[1])

    with tempfile.TemporaryDirectory(prefix="caafp-run-") as scratch:
        connection = Connection(flower_environment(), name)
        outcome = follow(
            announced(settings, Path(scratch), connection, None, say), connection, listen
        )
    return End(told[-1] if told else None, outcome.complaint)


def announced(
    settings: Settings,
    scratch: Path,
    connection: Connection,
    machine: Machine | None,
    say: Say,
) -> list[str]:
    """Return the ``flwr run`` command, after saying it."""
    config = scratch / "run-config.toml"
    config.write_text(to_toml(settings.to_dict()), encoding="utf-8")
    federation = machine.federation_config() if machine else None
    command = run_command(app_folder(scratch), connection, config, federation)
    say("$ " + printable(command))
    return command
