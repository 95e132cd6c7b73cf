"""``caafp personal``: the personal models that this device keeps, one of each run."""

from pathlib import Path
from typing import Annotated

import typer

from caafp_app.cli.ending import ending
from caafp_app.cli.export import Formats, tell
from caafp_app.cli.options import StateDir, argument, option, state_of
from caafp_app.safe_text import printable

personal = typer.Typer(
    no_args_is_help=True,
    help="See, choose and export the personal models that stayed on this device.",
)

_Run = Annotated[str, argument("RUN", "Id or name of a run.")]


@personal.command("list")
def list_models(state_dir: StateDir = None) -> None:
    """List the models: of which run, how good they were then, and which one predicts."""
    from caafp_app.devices.kept import list_kept

    with ending():
        kept = list_kept(state_of(state_dir))
    typer.echo(f"  {'run':<20} {'name':<16} {'written':<20} {'before':>7} {'after':>7} windows")
    for one in kept:
        card = one.card
        scores = [
            "-" if score is None else f"{100 * score:.1f} %"
            for score in (card.cluster_accuracy, card.personal_accuracy)
        ]
        typer.echo(
            f"{'*' if one.served else ' '} {one.run:<20} {printable(card.run_name) or '-':<16} "
            f"{printable(card.written):<20} {scores[0]:>7} {scores[1]:>7} "
            f"{card.train_examples} to train, {card.test_examples} to test"
        )
    typer.echo("* predicts" if kept else "none: a run leaves one after its personalise phase")


@personal.command()
def use(run: _Run, state_dir: StateDir = None) -> None:
    """Predict by the model of RUN from now on; [bold]best[/] lets the next run choose again."""
    from caafp_app.devices.kept import BEST
    from caafp_app.devices.kept import use as used

    with ending():
        kept = used(state_of(state_dir), run)
    until = "until a better one comes" if run == BEST else "whatever comes"
    typer.echo(f"run {kept.run} predicts, {until}")


@personal.command()
def export(
    run: Annotated[str, argument("[RUN]", "Id or name of a run.", "served")] = "",
    format_: Formats = None,
    output: Annotated[Path, option("Where to.", True, "--output", "-o", metavar="DIR")] = Path(),
    state_dir: StateDir = None,
) -> None:
    """Export a personal model, as [bold]caafp export[/] does a cluster's."""
    with ending():
        from caafp_app.devices.kept import find_kept
        from caafp_app.export import export_network, load_personal_network

        trained = load_personal_network(find_kept(state_of(state_dir), run).folder)
        made = export_network(trained, format_ or ["safetensors"], output.expanduser())
        tell(trained, made)
