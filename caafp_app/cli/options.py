"""Options that several commands share."""

from typing import Annotated

import typer
from typer.core import TyperCommand

from caafp_app.settings import knobs

OutputDir = Annotated[
    str, typer.Option(metavar="DIR", help="As the setting: names are looked for in runs/ below it.")
]
"""Where runs that are given by name, or as ``latest``, lie."""


class WithSettings(TyperCommand):
    """A command that takes settings: it tells who writes one as an option how it is written."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Look for settings among the options first."""
        keys = {knob.key for knob in knobs()}
        for place, word in enumerate(args):
            key, equals, value = word.removeprefix("--").partition("=")
            if word.startswith("--") and key in keys:
                value = value if equals else (args[place + 1 : place + 2] or ["VALUE"])[0]
                ctx.fail(f"{key} is a setting; write {key}={value}, without --")
        return super().parse_args(ctx, args)
