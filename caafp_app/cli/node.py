"""``caafp node``: is this device ready, what will leave it, and how it takes part."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from caafp_app.cli.ending import ending
from caafp_app.cli.options import argument, option
from caafp_app.launch.presets import merged


def node(
    preset: Annotated[str, argument("PRESET-OR-FILE", "As the run will have it.")],
    data_path: Annotated[Path, option("This device's windows or recordings.")],
    pairs: Annotated[list[str] | None, argument("[key=value]...", "Likewise.")] = None,
    label: Annotated[str, option("Name of this device for good.", "from data-path")] = "",
    state_dir: Annotated[
        Path | None, option("Where the personal model is kept.", "~/.caafp/personal/LABEL")
    ] = None,
    key: Annotated[
        Path | None,
        option("This device's private key, of `caafp keys device`: it signs its label."),
    ] = None,
    write: Annotated[Path | None, option("Write the node-config to this .toml file.")] = None,
    rehearse: Annotated[
        bool, option("Answer one message of each kind, here and to nobody.", True)
    ] = True,
) -> None:
    """Check a device: its data, and what will leave it. Prints its node-config.

    PRESET-OR-FILE and settings are those of the run that is to come; its operator knows them.

    [bold]caafp node caafp dataset=folder input-shape=128,9 classes=6 --data-path walks[/]
    """
    from caafp_app.devices.check import check_data
    from caafp_app.devices.node_config import as_line, device_config, write_file
    from caafp_app.registry import is_path

    with ending():
        settings = merged(preset, pairs or [])
        config = device_config(data_path, label, state_dir, key)
        report = check_data(settings.data, config)
        # torch is imported from here on: seconds on a small device.
        from caafp_app.devices.report import data_text, rehearsal_text

        typer.echo(data_text(report))
        from caafp_app.launch.beforehand import check_node, check_writable

        if state_dir is not None:
            check_writable("--state-dir", state_dir.expanduser())
        for note in check_node(settings, report.shape, len(report.train)):
            typer.echo(f"note: {note}")
        if rehearse:
            from caafp_app.client_app import app
            from caafp_app.devices.rehearsal import rehearse as rehearsed

            typer.echo("\n" + rehearsal_text(rehearsed(app, settings, config)))
            if is_path(settings.run.strategy):
                typer.echo(
                    f"note: {settings.run.strategy} is a class of the server's; shown is plain "
                    "training, and docs/privacy.md lists all that a server can ask for"
                )
        if write is not None:
            write_file(write.expanduser(), config)
    line = str(write) if write is not None else shlex.quote(as_line(config))
    typer.echo(f"\nready. It takes part by `caafp device` with\n--node-config {line}")
