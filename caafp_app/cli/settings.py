"""``caafp settings``: every setting, for a reader, a TOML file or docs/settings.md."""

from itertools import groupby
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from caafp_app.cli.ending import ending
from caafp_app.cli.options import argument, flag
from caafp_app.errors import SettingsError
from caafp_app.launch.presets import literal, preset_names, read_preset
from caafp_app.registry import hint
from caafp_app.settings import Knob, knobs


def list_settings(
    names: Annotated[list[str] | None, argument("[NAME]...", "Only these settings.")] = None,
    toml: Annotated[bool, flag("--toml", "As TOML, to start a file of your own from.")] = False,
    markdown: Annotated[bool, flag("--markdown", "As Markdown, for docs/settings.md.")] = False,
) -> None:
    """List every setting: its default, what it may be, what it does."""
    if toml or markdown:
        typer.echo(settings_toml() if toml else settings_markdown(), nl=False)
        return
    if names:
        with ending():
            for name in names:
                typer.echo(described(name))
        return
    table = Table(title="Settings", title_justify="left", header_style="bold")
    for column in ("setting", "default", "expected", "what it does"):
        table.add_column(column, overflow="fold", no_wrap=column == "setting")
    for _, group in _groups():
        for knob in group:
            row = (knob.key, literal(knob.default), knob.expected, knob.comment)
            table.add_row(*(cell.replace("[", r"\[") for cell in row))  # no markup of rich's
        table.add_section()
    Console().print(table)
    typer.echo("Presets: " + ", ".join(preset_names()))


def described(name: str) -> str:
    """Return a setting in a few lines, or raise SettingsError that names the nearest one."""
    known = {knob.key: knob for knob in knobs()}
    knob = known.get(name.replace("_", "-").strip().lower())
    if knob is None:
        raise SettingsError(
            f"unknown setting {name!r}{hint(name, known)} (`caafp settings` lists all)"
        )
    lines = [f"{knob.key} = {literal(knob.default)}", f"  {knob.comment}", f"  {knob.expected}"]
    values = {preset: read_preset(preset).get(knob.key) for preset in preset_names()}
    lines += [f"  {preset}: {value}" for preset, value in values.items() if value is not None]
    return "\n".join(lines)


def _groups() -> "groupby[str, Knob]":
    return groupby(knobs(), key=lambda knob: knob.group)


def settings_toml() -> str:
    """Return the lines of ``[tool.flwr.app.config]``: groups, keys, defaults, comments."""
    parts = []
    for name, group in _groups():
        lines = [f"# {name}\n"]
        for knob in group:
            names = knob.expected.removeprefix("one of ")
            choices = f" ({names})" if names != knob.expected else ""
            lines.append(f"{knob.key} = {literal(knob.default)}  # {knob.comment}{choices}\n")
        parts.append("".join(lines))
    return "\n".join(parts)


def settings_markdown() -> str:
    """Return the settings in Markdown: a heading and a table for each group."""
    head = "| setting | default | may be | what it does |\n|---|---|---|---|\n"
    parts = []
    for name, group in _groups():
        lines = [f"### {name.capitalize()}\n\n{head}"]
        for knob in group:
            comment = knob.comment.replace("|", r"\|").replace("<", r"\<")
            expected = knob.expected.removeprefix("one of ")
            default = literal(knob.default)
            lines.append(f"| `{knob.key}` | `{default}` | {expected} | {comment} |\n")
        parts.append("".join(lines))
    return "\n".join(parts)
