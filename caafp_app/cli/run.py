"""``caafp run``: one run of a preset, with settings of one's own, to its end."""

from datetime import datetime
from typing import Annotated

import typer

from caafp_app.cli.ending import FAILED, ending
from caafp_app.errors import SettingsError
from caafp_app.launch.plan import (
    Simulation,
    check_machine,
    count_supernodes,
    gpu_share,
    placed,
)
from caafp_app.launch.presets import merged, to_toml
from caafp_app.launch.start import End, Say, deploy, simulate
from caafp_app.settings import Settings


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
    client_cpus: Annotated[
        int, typer.Option(min=1, help="Cores that a client occupies; the others wait.")
    ] = 1,
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
        bool, typer.Option("--dry-run", help="Check, print settings and command, start nothing.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="For scripts: the path of the run directory on stdout, all else on stderr.",
        ),
    ] = False,
) -> None:
    """Train: check a preset and your settings, run them by [bold]flwr run[/], end with its success.

    PRESET-OR-FILE is a preset of the app (caafp, paper-uci, paper-wisdm, smoke ...) or a TOML file
    of flat settings. Each key=value wins over it; `caafp settings` lists the keys.

    [bold]caafp run smoke[/]                                 every phase once, in half a minute

    [bold]caafp run caafp sparsity=0.8 seed=7[/]             a preset with settings of your own

    [bold]caafp run paper-uci data-dir=~/uci-har.zip[/]      real recordings

    [bold]caafp run my.toml --superlink my-devices[/]        real devices

    A simulation gets a SuperLink of its own, which is ended, with all it started, when the run
    ends or you press Ctrl-C. Results go to runs/ below the setting output-dir.
    """

    def say(line: str) -> None:
        typer.echo(line, err=as_json)

    with ending():
        settings = merged(preset, pairs or [])
        if superlink is None:
            cpus = client_cpus
            simulation = Simulation(
                count_supernodes(settings, num_supernodes),
                cpus,
                gpu_share(settings, client_gpus, cpus),
                client_logs,
            )
            start = _batched if settings.run.engine == "batched" else simulate
            end = start(settings, simulation, say, dry_run)
        else:
            if settings.run.engine != "ray":
                raise SettingsError(
                    f"engine: {settings.run.engine!r} is for simulations; expected --superlink or "
                    "the engine, found both"
                )
            if num_supernodes is not None:
                raise SettingsError(
                    "--num-supernodes: expected it or --superlink, whose SuperNodes are real; "
                    "found both"
                )
            end = deploy(settings, superlink, say, dry_run)
    if end.complaint:
        typer.echo(f"caafp: {end.complaint}", err=True)
    if end.results is not None:
        typer.echo(end.results if as_json else f"Results: {end.results}")
    if end.complaint:
        raise typer.Exit(FAILED)


def _batched(settings: Settings, simulation: Simulation, say: Say, dry_run: bool) -> End:
    """Run in this process, by the batched engine: there is no SuperLink to follow."""
    settings, results = placed(settings, datetime.now())
    if dry_run:
        say(to_toml(settings.to_dict()))
        return End()
    check_machine(settings, results)
    from caafp_app.engine.run import simulate as simulate_here

    simulate_here(settings, simulation.supernodes, simulation.client_cpus)
    return End(str(results))
