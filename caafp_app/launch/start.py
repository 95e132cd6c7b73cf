"""A whole run: on a private SuperLink for a simulation, or on one that the user has."""

import re
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from caafp_app.launch.follow import Outcome, follow, printable, run_command
from caafp_app.launch.plan import Simulation, check_machine, placed, write_run_config
from caafp_app.launch.presets import to_toml
from caafp_app.launch.source import app_folder
from caafp_app.launch.superlink import Connection, flower_environment, private_superlink
from caafp_app.settings import Settings

Say = Callable[[str], None]

# The app's last word; on real nodes the folder is on the SuperLink's machine.
_RESULTS = re.compile(r"results: (\S.*?)\s*$")


@dataclass(frozen=True)
class End:
    """How a run ended.

    Attributes
    ----------
    results : str | None
        The run directory, where there is one.
    complaint : str
        What went wrong; empty for a success.
    """

    results: str | None = None
    complaint: str = ""


def simulate(settings: Settings, simulation: Simulation, say: Say, dry_run: bool = False) -> End:
    """Run a simulation on a SuperLink that is started for it and ended after it.

    Parameters
    ----------
    settings : Settings
        What to run.
    simulation : Simulation
        How many clients, and their share of this machine.
    say : Callable[[str], None]
        Takes the command and each line of the run.
    dry_run : bool
        Say settings and command, start nothing.

    Raises
    ------
    DataError, SettingsError
        The data cannot be read, or there cannot be a run directory.
    RunError
        The SuperLink or the run did not start.
    """
    settings, results = placed(settings, datetime.now())
    if not dry_run:
        check_machine(settings, results)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="caafp-run-")))
        connection = Connection({}) if dry_run else stack.enter_context(private_superlink())
        command = _announced(settings, scratch, connection, simulation, say, dry_run)
        if dry_run:
            return End()
        outcome = follow(command, connection, say)
    complaint = _complaint(outcome)
    if not complaint and not (results / "summary.json").is_file():
        complaint = f"the run ended, but expected {results / 'summary.json'}, found nothing"
    return End(str(results) if results.is_dir() else None, complaint)


def deploy(settings: Settings, name: str, say: Say, dry_run: bool = False) -> End:
    """Run on real SuperNodes, by a connection of the user's own Flower configuration.

    Paths in the settings are the nodes' own and are left as they are.

    Parameters
    ----------
    settings : Settings
        What to run.
    name : str
        The connection.
    say : Callable[[str], None]
        Takes the command and each line of the run.
    dry_run : bool
        Say settings and command, start nothing.

    Raises
    ------
    RunError
        The run did not start.
    """
    told: list[str] = []

    def listen(line: str) -> None:
        say(line)
        told.extend(_RESULTS.findall(line))

    with tempfile.TemporaryDirectory(prefix="caafp-run-") as scratch:
        connection = Connection(flower_environment(), name)
        command = _announced(settings, Path(scratch), connection, None, say, dry_run)
        if dry_run:
            return End()
        outcome = follow(command, connection, listen)
    return End(told[-1] if told else None, _complaint(outcome))


def _complaint(outcome: Outcome) -> str:
    if outcome.succeeded:
        return ""
    return f"the run ended as {outcome.status}. {outcome.details}".rstrip()


def _announced(
    settings: Settings,
    scratch: Path,
    connection: Connection,
    simulation: Simulation | None,
    say: Say,
    dry_run: bool,
) -> list[str]:
    """Return the ``flwr run`` command, after saying it."""
    command = run_command(
        app_folder(scratch),
        connection,
        write_run_config(settings, scratch),
        simulation.federation_config() if simulation else None,
    )
    if dry_run:
        say(to_toml(settings.to_dict()))
    say("$ " + printable(command))
    return command
