"""Options that several commands share."""

from typing import Annotated

import typer

OutputDir = Annotated[
    str, typer.Option(metavar="DIR", help="As the setting: names are looked for in runs/ below it.")
]
"""Where runs that are given by name, or as ``latest``, lie."""
