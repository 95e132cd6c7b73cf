"""``caafp tune``: better settings than a preset's, by trying."""

from pathlib import Path
from typing import Annotated

import typer

from caafp_app.cli.ending import REPEAT, ending
from caafp_app.cli.options import ClientCpus, argument, flag, option
from caafp_app.errors import SettingsError
from caafp_app.launch.presets import read_preset

METRICS = ("personal", "cluster")


def tune(
    preset: Annotated[str, argument("PRESET-OR-FILE", "Where the search starts.")],
    pairs: Annotated[
        list[str],
        argument(
            "key=low..high|a,b|value...",
            "What is searched: a range or choices. key=value is the same in all trials.",
        ),
    ],
    trials: Annotated[int, option("In all, earlier ones included.", True, min=1)] = 20,
    metric: Annotated[
        str, option("Whose accuracy counts: personal or cluster models.", True)
    ] = "personal",
    client_cpus: ClientCpus = 1,
    output: Annotated[
        str, option("Where it is kept.", "tune/<preset> in the app's home", metavar="DIR")
    ] = "",
    dry_run: Annotated[
        bool, flag("--dry-run", "Check, print what is searched, start nothing.")
    ] = False,
) -> None:
    """Search a few settings for the best accuracy on validation data.

    [bold]caafp tune caafp learning-rate=0.0003..0.01 local-epochs=1..5[/]

    [bold]caafp tune smoke allocation=uniform,erk,global sparsity=0.8 --trials 10[/]

    Test data is not looked at. The first trial is the preset itself. A range whose high end is 10
    times its low end, or more, is searched on a logarithmic scale. The same command goes on where
    it stopped; more --trials add to it. best.toml in the output folder is a file for `caafp run`.
    """
    with ending(REPEAT):
        from caafp_app.launch.beforehand import check_simulation
        from caafp_app.runs.place import default_home
        from caafp_app.tune.search import Search, Tried, search, table
        from caafp_app.tune.space import read_space
        from caafp_app.tune.trial import run_trial

        if metric not in METRICS:
            raise SettingsError(f"--metric: expected {' or '.join(METRICS)}, found {metric!r}")
        space, fixed = read_space(pairs)
        what = Search(preset, read_preset(preset), fixed, space)
        name = Path(preset).stem
        folder = Path(output).expanduser() if output else default_home() / "tune" / name
        first = folder.resolve() / "runs" / "trial-0000"
        checked = check_simulation(what.settings({}), first, fetch=not dry_run)
        for note in checked.notes:
            typer.echo(f"note: {note}", err=True)
        if dry_run:
            for key, start in what.start.items():
                typer.echo(f"{key}: {space[key]}, starting from {start}")
            return

        def tell(tried: Tried) -> None:
            values = ", ".join(f"{key}={value}" for key, value in tried.values.items())
            score = tried.complaint or f"{100 * (tried.score or 0.0):.2f} %"
            typer.echo(f"trial {tried.number}: {score}  {values}", err=True)

        found = search(
            what,
            folder.resolve(),
            trials,
            lambda settings, one: run_trial(settings, one, folder.resolve(), client_cpus, metric),
            tell,
        )
    typer.echo(table(found[:10]), nl=False)
    typer.echo(f"Best settings: {folder / 'best.toml'}; all trials: {folder / 'table.md'}")
