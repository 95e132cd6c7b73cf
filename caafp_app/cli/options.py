"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

OutputDir = Annotated[
    str, typer.Option(metavar="DIR", help="As the setting: names are looked for in runs/ below it.")
]
"""Where runs that are given by name, or as ``latest``, lie."""

ClientCpus = Annotated[
    int, typer.Option(min=1, help="Cores that a client occupies; the others wait.")
]

StateDir = Annotated[
    Path | None,
    typer.Option(
        help="Where the device keeps its models: the state-dir of its node-config.",
        show_default="the only one in ~/.caafp/personal",
    ),
]


def state_of(state_dir: Path | None) -> Path:
    """Return the folder of a `StateDir`; without one the only one that there is."""
    from caafp_app.devices.kept import the_only_state

    return state_dir.expanduser() if state_dir is not None else the_only_state()
