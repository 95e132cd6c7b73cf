"""``caafp``: the app's own command line. Thin: ``flwr run`` stays the way to run.

One command a module; each is registered here.
"""

import errno
import os
import sys
from typing import Annotated

import typer

import caafp_app
from caafp_app.cli.bench import bench
from caafp_app.cli.device import OPTIONS, device
from caafp_app.cli.ending import FAILED
from caafp_app.cli.export import export
from caafp_app.cli.keys import keys
from caafp_app.cli.node import node
from caafp_app.cli.options import WithSettings
from caafp_app.cli.personal import personal
from caafp_app.cli.predict import predict
from caafp_app.cli.privacy import privacy
from caafp_app.cli.report import report
from caafp_app.cli.run import run
from caafp_app.cli.settings import list_settings
from caafp_app.cli.tune import tune
from caafp_app.cli.watch import watch

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # keys and windows are none for a bug report
    rich_markup_mode="rich",
    help="Clustered, sparse, personalised federated learning on Flower.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"caafp {caafp_app.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


app.command(cls=WithSettings)(run)
app.command(cls=WithSettings)(bench)
app.command(cls=WithSettings)(tune)
app.command()(watch)
app.command()(report)
app.command()(export)
app.command("settings")(list_settings)
app.add_typer(keys, name="keys")
app.command(cls=WithSettings)(node)
app.command(context_settings=OPTIONS)(device)
app.command()(predict)
app.add_typer(personal, name="personal")
app.command()(privacy)


def main() -> None:
    """Start the command line."""
    # A random.py where somebody works must not stand before Python's own in what we start.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows "?", and the run goes on.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="caafp")
    except OSError as error:
        # A full disk that output goes to, or a working folder that is gone.
        if error.errno not in (errno.ENOSPC, errno.ENOENT, errno.ESTALE):
            raise
        print(f"caafp: {error}", file=sys.stderr)
        sys.exit(FAILED)
