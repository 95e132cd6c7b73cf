"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from caafp_app.settings import knobs


def argument(metavar: str, help: str, default: bool | str = False) -> Any:
    """Declare an argument; `default` is what is shown of its default, if anything."""
    return typer.Argument(metavar=metavar, help=help, show_default=default)


def option(help: str, default: bool | str = False, *names: str, **more: Any) -> Any:
    """Declare an option, likewise."""
    return typer.Option(*names, help=help, show_default=default, **more)


def flag(name: str, help: str) -> Any:
    """Declare a switch that is off without its name."""
    return typer.Option(name, help=help)


OutputDir = Annotated[
    str, option("As the setting: names are looked for in runs/ below it.", True, metavar="DIR")
]
"""Where runs that are given by name, or as ``latest``, lie."""

ClientCpus = Annotated[int, option("Cores that a client occupies; the others wait.", True, min=1)]

StateDir = Annotated[
    Path | None,
    option(
        "Where the device keeps its models: the state-dir of its node-config.",
        "the only one in ~/.caafp/personal",
    ),
]


def state_of(state_dir: Path | None) -> Path:
    """Return the folder of a `StateDir`; without one the only one that there is."""
    from caafp_app.devices.kept import the_only_state

    return state_dir.expanduser() if state_dir is not None else the_only_state()


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
