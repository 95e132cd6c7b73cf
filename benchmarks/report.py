"""What a benchmark found: a table to read, JSON for scripts, and whether targets are met."""

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FORMAT = 1
_PACKAGES = ("flwr", "numpy", "torch", "ray")

Row = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A figure that is to stay at or below a limit."""

    name: str
    measured: float
    limit: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it does."""
        return self.measured <= self.limit

    def to_json(self) -> Row:
        """Return the fields and whether the target is met."""
        return {
            "name": self.name,
            "measured": self.measured,
            "limit": self.limit,
            "unit": self.unit,
            "met": self.met,
        }


@dataclass
class Report:
    """The outcome of one benchmark.

    Attributes
    ----------
    name, title
        Of the benchmark.
    columns : mapping of str to str
        Keys of `rows` that the table shows, with their headings; rows may hold more.
    rows : list of dict
        JSON-able.
    targets : list of Target
    notes : list of str
        What a reader of the figures has to know.
    more : dict
        Further figures for the JSON.
    """

    name: str
    title: str
    columns: Mapping[str, str]
    rows: list[Row] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more: Row = field(default_factory=dict)

    def show(self, console: Console | None = None) -> None:
        """Print table, targets and notes."""
        console = console or Console(highlight=False, soft_wrap=True, width=_width())
        table = Table(title=self.title, title_justify="left", header_style="bold")
        for key, heading in self.columns.items():
            text = any(isinstance(row.get(key), str) for row in self.rows)
            table.add_column(heading, justify="left" if text else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*(_cell(row.get(key)) for key in self.columns))
        console.print(table)
        for target in self.targets:
            word = "[green]met[/]" if target.met else "[red]missed[/]"
            measured, limit = _cell(target.measured), _cell(target.limit)
            console.print(f"{word}  {target.name}: {measured} of at most {limit} {target.unit}")
        for note in self.notes:
            console.print(note, markup=False)

    def to_json(self) -> Row:
        """Return everything, with the machine it was measured on."""
        return {
            "format": FORMAT,
            "benchmark": self.name,
            "machine": machine(),
            "rows": self.rows,
            "targets": [target.to_json() for target in self.targets],
            "notes": self.notes,
            **self.more,
        }

    def finish(self, path: Path | None) -> None:
        """Print it, and write it as JSON where a path is given."""
        self.show()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")


def machine() -> Row:
    """Describe this machine as far as figures depend on it."""
    versions = {name: found for name in _PACKAGES if (found := _version(name))}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": cores(),
        "load": load,
        "python": platform.python_version(),
        **versions,
    }


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parser(description: str, *, full: str = "") -> argparse.ArgumentParser:
    """Make the parser that all benchmarks share: ``--json``, and ``--full`` where there is more.

    Parameters
    ----------
    description : str
        First line of the help.
    full : str
        What ``--full`` adds; empty: there is no such option.
    """
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", type=Path, metavar="PATH", help="write the figures here, too")
    if full:
        made.add_argument("--full", action="store_true", help=full)
    return made


def median(values: Sequence[float]) -> float:
    """Return the middle value; NaN of none."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _width() -> int | None:
    """Return columns enough for our tables where nobody looks; else as many as there are."""
    return None if sys.stdout.isatty() else 120


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int):
        millions, rest = divmod(value, 1_000_000)
        return f"{millions} M" if millions and not rest else f"{value:,}"
    return str(value)
