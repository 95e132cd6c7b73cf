"""``caafp report``: runs as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from caafp_app.cli.ending import ending
from caafp_app.cli.options import OutputDir, argument, option
from caafp_app.errors import SettingsError


def report(
    runs: Annotated[
        list[str],
        argument(
            "RUN...", "Run directories, or names of runs below --output-dir; `latest` is one."
        ),
    ],
    output: Annotated[
        Path | None,
        option(
            "Where to.",
            "report.html in the run directory, if it is one run",
            *("--output", "-o"),
            metavar="FILE",
        ),
    ] = None,
    output_dir: OutputDir = "",
) -> None:
    """Write runs as one page of HTML.

    [bold]caafp report latest[/]

    [bold]caafp report RUN RUN -o both.html[/]     two, side by side

    The page has settings, plan, curves, clients, clusters, masks and bytes. It needs no network and
    no other file.
    """
    with ending():
        from caafp_app.report.page import build_page
        from caafp_app.runs.files import write_atomic
        from caafp_app.runs.place import find_run
        from caafp_app.runs.reading import read_run

        found = [read_run(find_run(name, output_dir)) for name in runs]
        if output is None and len(found) > 1:
            raise SettingsError("-o: expected a file to write several runs to, found none")
        path = output if output is not None else found[0].path / "report.html"
        write_atomic(path, build_page(found).encode())
        typer.echo(str(path))
