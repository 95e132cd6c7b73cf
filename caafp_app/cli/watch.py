"""``caafp watch``: a run as it goes on."""

import time
from typing import Annotated

import typer

from caafp_app.cli.ending import ending
from caafp_app.cli.options import OutputDir, argument, flag, option

SECONDS = 1.0


def watch(
    run: Annotated[
        str, argument("[RUN]", "Run directory, or the name of a run below --output-dir.", True)
    ] = "latest",
    web: Annotated[bool, flag("--web", "As a page for the browser of this machine.")] = False,
    port: Annotated[int, option("Of that page.", True, min=1, max=65535)] = 8765,
    once: Annotated[bool, flag("--once", "Show it once, and end.")] = False,
    output_dir: OutputDir = "",
) -> None:
    """Watch a run while it goes on.

    Shows phase, time left, accuracy, bytes, and each client by its label. It only reads the folder
    of the run.

    [bold]caafp watch[/]    [bold]caafp watch latest --web[/]
    """
    with ending():
        from rich.console import Console
        from rich.live import Live

        from caafp_app.runs.place import find_run
        from caafp_app.watch.terminal import render
        from caafp_app.watch.view import Watcher

        folder = find_run(run, output_dir)
        watcher = Watcher(folder)
        view = watcher.look()
        if web:
            from caafp_app.watch.web import HOST, serve

            typer.echo(f"http://{HOST}:{port}/   (Ctrl-C ends it)")
            serve(folder, port)
            return
        console = Console()
        if once or view.finished or not console.is_terminal:
            console.print(render(view))
            return
        with Live(render(view), console=console, auto_refresh=False) as screen:
            while not view.finished:
                time.sleep(SECONDS)
                view = watcher.look()
                screen.update(render(view), refresh=True)
