"""From a command, or a call of Python, to a run that starts: settings and checks."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from caafp_app.engine.early import start_early, wants_pool
from caafp_app.errors import SettingsError
from caafp_app.launch.beforehand import Checked, check_deployment, check_simulation
from caafp_app.launch.connections import check_connection
from caafp_app.launch.plan import Machine, check_share, gpu_share, placed
from caafp_app.launch.presets import combined, preset_names, read_preset, to_toml
from caafp_app.launch.start import End, Say, deploy, simulate
from caafp_app.settings import Settings, knobs


@dataclass(frozen=True)
class Prepared:
    """A run that has been checked and can start.

    A simulation will leave its `results` there, unless another run takes the name first.
    """

    settings: Settings
    results: Path | None
    machine: Machine
    checked: Checked

    def lines(self) -> list[str]:
        """Say in a few lines what will be run, and what about it may be a mistake."""
        lines = [f"data: {self.checked.facts}"] if self.checked.facts else []
        if self.results is not None:
            lines.append(f"results: will be in {self.results}")
        return lines + [f"note: {note}" for note in self.checked.notes]

    def settings_text(self) -> str:
        """Return the settings that differ from their defaults, as TOML."""
        changes = self.settings.changes()
        rest = len(list(knobs())) - len(changes)
        return (
            to_toml(changes) + f"# The other {rest} settings have their defaults: `caafp settings`."
        )


def prepare(
    preset: str,
    given: Mapping[str, object],
    machine: Machine | None = None,
    *,
    fetch: bool = True,
) -> Prepared:
    """Check all that can be known of a run before it starts. Nothing is made.

    `given` are settings over a preset or TOML file. With `fetch` published data may be downloaded
    to be checked. Raises what `caafp_app.launch.beforehand` raises.
    """
    machine = machine or Machine()
    base = read_preset(preset)
    settings, notes = combined(base, given)
    # A file of the user's own is as good as pairs; a preset of ours is not.
    named = {*given, *(base if preset not in preset_names() else ())}
    if machine.superlink is not None:
        for option, value in (
            ("--num-supernodes", machine.supernodes),
            ("--client-gpus", machine.client_gpus),
        ):
            if value is not None:
                raise SettingsError(
                    f"{option}: expected it or --superlink, whose SuperNodes are real; found both"
                )
        checked = check_deployment(settings, named)
        check_connection(machine.superlink)
        results = None
    else:
        settings, results = placed(settings, datetime.now())
        if wants_pool(settings.to_dict()):
            start_early()
        checked = check_simulation(settings, results, machine.supernodes, named, fetch=fetch)
        notes += check_share(settings, machine.client_cpus, machine.client_gpus)
        share = gpu_share(settings, machine.client_gpus, machine.client_cpus)
        machine = replace(machine, supernodes=checked.clients, client_gpus=share)
    checked.notes[:0] = notes
    return Prepared(settings, results, machine, checked)


def start(prepared: Prepared, say: Say) -> End:
    """Run it to its end; raises what `simulate` and `deploy` raise."""
    if prepared.machine.superlink is not None:
        return deploy(prepared.settings, prepared.machine.superlink, say)
    return simulate(prepared.settings, prepared.machine, say)


def resume_command(preset: str, pairs: Sequence[str], end: End) -> str:
    """Return the command that goes on with a run; empty where there is nothing to go on with."""
    if end.results is None or not end.saved:
        return ""
    kept = [
        pair for pair in pairs if pair.partition("=")[0].strip() not in ("resume-from", "run-name")
    ]
    return shlex.join(["caafp", "run", preset, *kept, f"resume-from={end.results}"])
