"""Whether two runs gave the same, to the last digit: ``python -m benchmarks.compare_runs OLD NEW``.

OLD and NEW are run directories, or folders that hold runs under the same paths, as a bench leaves
them. Compared are ``clients.csv``, ``clusters.json``, the accuracies, sparsities and bytes of
``summary.json``, every line of ``rounds.jsonl`` (bytes by kind and direction included), and all
arrays of models, masks and distances, bit by bit. Seconds and memory are not, nor what Flower
wraps around messages: its random node and run ids have more digits in one run than in another.
"""

import argparse
import csv
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from caafp_app.errors import CaafpError
from caafp_app.runs.reading import read_run
from caafp_app.runs.tensors import read_tensors

MEASURED = frozenset({"seconds", "server_memory_mb", "server_memory_peak_mb"})
WITH_ENVELOPES = frozenset({"bytes_down", "bytes_up"})
"""Counts in a round that hold Flower's wrapping; all other kinds are compared one by one."""
SUMMARY = ("accuracy", "sparsity", "bytes")
ARRAYS = ("models/*.safetensors", "masks/*.safetensors", "distances.safetensors")

Facts = dict[str, Any]


def run_folders(top: Path) -> dict[str, Path]:
    """Return the runs at or below a folder by their path in it; links are not followed."""
    found = (Path(here) for here, _, files in os.walk(top) if "settings.json" in files)
    return {path.relative_to(top).as_posix(): path for path in sorted(found)}


def facts_of(run: Path) -> Facts:
    """Return all that is compared of a run: numbers, texts and arrays by the place of each.

    Raises
    ------
    RunError
        If a file of the run is damaged.
    """
    files = read_run(run)
    facts: Facts = dict(_flat("clusters.json", files.clusters))
    for key in SUMMARY:
        told = files.summary.get(key, {})
        if key == "bytes":
            told = {name: told.get(name, {}) for name in ("messages", "by_kind")}
        facts |= _flat(f"summary.json {key}", told)
    for place, line in enumerate(files.rounds, start=1):
        told = {k: v for k, v in line.items() if k not in MEASURED | WITH_ENVELOPES}
        facts |= _flat(f"rounds.jsonl line {place}", told)
    if (run / "clients.csv").is_file():
        with (run / "clients.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                facts |= _flat(f"clients.csv {row['label']}", row)
    for pattern in ARRAYS:
        for path in sorted(run.glob(pattern)):
            arrays, metadata = read_tensors(path)
            name = path.relative_to(run).as_posix()
            facts |= _flat(f"{name} metadata", metadata)
            facts |= {f"{name} {key}": array for key, array in arrays.items()}
    return facts


def differences(old: Facts, new: Facts, ignored: Collection[str] = ()) -> Iterator[str]:
    """Yield one line for each fact that differs, with both values.

    Parameters
    ----------
    old, new : dict
        From `facts_of`.
    ignored : collection of str
        Names of fields that may be on one side only; where both have them, they are compared.
    """
    for key in sorted(old.keys() | new.keys()):
        if key in old and key in new:
            if difference := _difference(old[key], new[key]):
                yield f"{key}: {difference}"
        elif not set(ignored) & set(key.replace(" ", ".").split(".")):
            side, value = ("OLD", old[key]) if key in old else ("NEW", new[key])
            yield f"{key}: in {side} only, {_shown(value)}"


def compare(old: Path, new: Path, ignored: Collection[str] = ()) -> list[str]:
    """Return what differs between two runs, or two folders of runs; empty if nothing does."""
    olds, news = run_folders(old), run_folders(new)
    if not olds or not news:
        empty = new if olds else old
        return [f"expected a run directory with settings.json in {empty}, found none"]
    lines = []
    for name in sorted(olds.keys() | news.keys()):
        if name in olds and name in news:
            found = differences(facts_of(olds[name]), facts_of(news[name]), ignored)
            lines += [line if name == "." else f"{name}: {line}" for line in found]
        else:
            lines.append(f"{name}: a run in {'OLD' if name in olds else 'NEW'} only")
    return lines


def _flat(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings by their dotted place; lists are leaves."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key != "envelope":
                yield from _flat(f"{place}.{key}", inner)
    else:
        yield place, value


def _difference(old: Any, new: Any) -> str:
    if not hasattr(old, "dtype") or not hasattr(new, "dtype"):
        return "" if old == new else f"{_shown(old)} became {_shown(new)}"
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return f"{_shown(old)} became {_shown(new)}"
    if old.tobytes() == new.tobytes():
        return ""
    one, other = old.reshape(-1), new.reshape(-1)
    bits = (array.view(np.uint8).reshape(one.size, -1) for array in (one, other))
    places = np.flatnonzero(np.not_equal(*bits).any(axis=1))
    change = f"{one[places[0]]!r} became {other[places[0]]!r}"
    return f"{places.size} of {one.size} differ, the first at {places[0]}: {change}"


def _shown(value: Any) -> str:
    if hasattr(value, "dtype"):
        return f"{value.dtype} {list(value.shape)}"
    return repr(value)


def main() -> None:
    """Compare; end with 1 if anything differs."""
    parser = argparse.ArgumentParser(description="Compare two runs, or folders of runs, exactly.")
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="FIELD",
        help="a field that may be on one side only; may be given several times",
    )
    given = parser.parse_args()
    try:
        lines = compare(given.old, given.new, given.ignore)
    except CaafpError as error:
        sys.exit(f"cannot compare: {error}")
    for line in lines:
        print(line)
    if lines:
        sys.exit(f"{len(lines)} differences")
    print(f"the same, to the last digit: {len(run_folders(given.old))} runs")


if __name__ == "__main__":
    main()
