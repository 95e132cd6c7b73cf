"""``caafp``: the app's own command line. Thin: ``flwr run`` stays the way to run.

One command a module; each is registered here.
"""

import typer

from caafp_app.cli.run import run
from caafp_app.cli.settings import list_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Clustered, sparse, personalised federated learning on Flower.",
)

app.command()(run)
app.command("settings")(list_settings)


def main() -> None:
    """Start the command line."""
    app(prog_name="caafp")
