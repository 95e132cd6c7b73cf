"""``caafp run``: one run of a preset, with settings of one's own, to its end."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from caafp_app.cli.ending import FAILED, ending
from caafp_app.cli.options import ClientCpus
from caafp_app.launch.prepared import Machine, prepare, resume_command, start
from caafp_app.launch.presets import parse_pairs
from caafp_app.launch.start import Interrupted, announced
from caafp_app.launch.superlink import Connection


def run(
    preset: Annotated[
        str,
        typer.Argument(
            metavar="PRESET-OR-FILE",
            help="A preset of the app, or a TOML file of flat settings.",
            show_default=False,
        ),
    ],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings over the preset's; `caafp settings` lists them.",
            show_default=False,
        ),
    ] = None,
    num_supernodes: Annotated[
        int | None,
        typer.Option(min=1, help="Simulated clients.", show_default="one per user of the data"),
    ] = None,
    client_cpus: ClientCpus = 1,
    client_gpus: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Share of a GPU that a client occupies.",
            show_default="with device=cuda one over the cores, else 0",
        ),
    ] = None,
    client_logs: Annotated[
        bool, typer.Option("--client-logs", help="Stream what clients log, too.")
    ] = False,
    superlink: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Run on real SuperNodes, by this connection of your own Flower configuration; "
            "nothing is started here.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check all that a run needs, print settings and command. Start and download "
            "nothing.",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="For scripts: the path of the run directory on stdout, all else on stderr.",
        ),
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
                simulation = None if superlink else prepared.simulation
                link = Connection({}, superlink)
                announced(prepared.settings, Path(scratch), link, simulation, say)
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
