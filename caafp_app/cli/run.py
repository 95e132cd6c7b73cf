"""``caafp run``: one run of a preset, with settings of one's own, to its end."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from caafp_app.cli.ending import FAILED, ending
from caafp_app.cli.options import ClientCpus, argument, flag, option
from caafp_app.launch.plan import Machine
from caafp_app.launch.prepared import prepare, resume_command, start
from caafp_app.launch.presets import parse_pairs
from caafp_app.launch.start import Interrupted, announced
from caafp_app.launch.superlink import Connection


def run(
    preset: Annotated[
        str, argument("PRESET-OR-FILE", "A preset of the app, or a TOML file of flat settings.")
    ],
    pairs: Annotated[
        list[str] | None,
        argument("[key=value]...", "Settings over the preset's; `caafp settings` lists them."),
    ] = None,
    num_supernodes: Annotated[
        int | None, option("Simulated clients.", "one per user of the data", min=1)
    ] = None,
    client_cpus: ClientCpus = 1,
    client_gpus: Annotated[
        float | None,
        option(
            "Share of a GPU that a client occupies.",
            "with device=cuda one over the cores, else 0",
            min=0.0,
        ),
    ] = None,
    client_logs: Annotated[bool, flag("--client-logs", "Stream what clients log, too.")] = False,
    superlink: Annotated[
        str | None,
        option(
            "Run on real SuperNodes, by this connection of your own Flower configuration; "
            "nothing is started here.",
            metavar="NAME",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        flag(
            "--dry-run",
            "Check all that a run needs, print settings and command. Start and download nothing.",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        flag("--json", "For scripts: the path of the run directory on stdout, all else on stderr."),
    ] = False,
) -> None:
    """Train: check a preset and your settings, then run them.

    PRESET-OR-FILE is a preset of the app (caafp, paper-uci, paper-wisdm, smoke ...) or a TOML file
    of flat settings. Each key=value wins over it; `caafp settings` lists the keys.

    [bold]caafp run smoke[/]                                 every phase once, in half a minute

    [bold]caafp run caafp sparsity=0.8 seed=7[/]             a preset with settings of your own

    [bold]caafp run paper-uci data-dir=~/uci-har.zip[/]      real recordings

    [bold]caafp run my.toml --superlink my-devices[/]        real devices

    A simulation gets a SuperLink of its own. It ends, with all it started, when the run ends or you
    press Ctrl-C. The command ends with the run's success or failure. Results go to runs/ below the
    setting output-dir.
    """

    def say(line: str) -> None:
        typer.echo(line, err=as_json)

    with ending():
        machine = Machine(superlink, num_supernodes, client_cpus, client_gpus, client_logs)
        prepared = prepare(preset, parse_pairs(pairs or []), machine, fetch=not dry_run)
        if dry_run:
            say(prepared.settings_text() + "\n")
        for line in prepared.lines():
            say(line)
        if dry_run:
            if prepared.settings.run.engine != "ray" or not (prepared.checked.clients or superlink):
                return  # no SuperLink and no command, or the data will say how many clients
            with tempfile.TemporaryDirectory(prefix="caafp-run-") as scratch:
                simulated = None if superlink else prepared.machine
                link = Connection({}, superlink)
                announced(prepared.settings, Path(scratch), link, simulated, say)
            return
        status = FAILED
        try:
            end = start(prepared, say)
        except Interrupted as interrupt:
            end, status = interrupt.end, interrupt.status
    if end.complaint:
        typer.echo(f"caafp: {end.complaint}", err=True)
        if command := resume_command(preset, pairs or [], end):
            typer.echo(f"caafp: saved after round {end.saved}. Go on with: {command}", err=True)
    if end.results is not None:
        typer.echo(end.results if as_json else f"Results: {end.results}")
    if end.complaint:
        raise typer.Exit(status)
