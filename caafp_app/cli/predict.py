"""``caafp predict``: what this device's personal model says of new recordings."""

from pathlib import Path
from typing import Annotated

import typer

from caafp_app.cli.ending import ending
from caafp_app.cli.options import StateDir, option, state_of
from caafp_app.errors import SettingsError


def predict(
    data: Annotated[
        Path,
        option(
            "Windows or recordings, as data-path: .npz, .csv, or a folder. Labels are not read "
            "and may be missing."
        ),
    ],
    state_dir: StateDir = None,
    run: Annotated[
        str, option("Id or name of the run whose model predicts.", "served", metavar="RUN")
    ] = "",
    models: Annotated[
        Path | None,
        option(
            "A run directory, for a device that has no personal model: the general model, or a "
            "cluster's that knows these windows better.",
            "none",
            metavar="DIR",
        ),
    ] = None,
    output: Annotated[Path | None, option("CSV file to write.", "standard output")] = None,
) -> None:
    """Predict the class of each window by this device's personal model, or by a run's.

    [bold]caafp predict --data today.csv --output today-classes.csv[/]
    """
    from caafp_app.devices.kept import find_kept
    from caafp_app.devices.newcomer import predict_as_newcomer
    from caafp_app.devices.predict import predict as predicted
    from caafp_app.runs.files import write_atomic

    with ending():
        if output is not None:
            _check_apart(output.expanduser().resolve(), data.expanduser().resolve())
        if models is not None:
            found, name = predict_as_newcomer(data.expanduser(), models.expanduser())
            typer.echo(f"by {name} of {models}", err=True)
        else:
            found = predicted(data.expanduser(), find_kept(state_of(state_dir), run).folder)
        if output is None:
            typer.echo(found.to_csv(), nl=False)
            return
        write_atomic(output.expanduser(), found.to_csv().encode())
    counts = ", ".join(f"{name} {found.classes.count(name)}" for name in found.class_names)
    typer.echo(f"{len(found.classes)} windows: {counts}")


def _check_apart(output: Path, data: Path) -> None:
    """Refuse to write over recordings, or among them: all that lies there is data."""
    if data in (output, *output.parents):
        raise SettingsError(f"--output: expected a file apart from --data, found {output}")
