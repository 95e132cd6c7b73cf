"""Reading what a run left: the inverse of `caafp_app.runs.directory`."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import RunError, reading
from caafp_app.runs.records import ClientRecord
from caafp_app.runs.tensors import read_tensors
from caafp_app.safe_text import from_csv_cell

_TEXT_LIMIT = 256 * 1024 * 1024
"""Bytes of the largest file of text that is read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunFiles:
    """A run directory, read. What a run that was cut short has not written is empty.

    JSON files by their names; of ``rounds.jsonl`` a torn last line is left out.
    """

    path: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    clusters: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    clients: list[ClientRecord] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: the summary is written last."""
        return bool(self.summary)

    def masks(self) -> dict[int, NDArray[np.uint8]]:
        """Return the packed mask bits of each cluster, uint8 [ceil(P / 8)], little bit first."""
        found = {}
        for path in sorted((self.path / "masks").glob("cluster-*.safetensors")):
            number = path.stem.removeprefix("cluster-")
            if number.lstrip("-").isdigit():
                found[int(number)] = _tensor(path, "mask")[0]
        return dict(sorted(found.items()))

    def distances(self) -> tuple[list[str], NDArray[np.float32]] | None:
        """Return the clients' labels and distances [n, n] that were clustered; None if not kept."""
        path = self.path / "distances.safetensors"
        if not path.is_file():
            return None
        matrix, metadata = _tensor(path, "distances")
        with reading(f"the labels in {path}", RunError):
            labels = [str(label) for label in json.loads(metadata.get("labels", "[]"))]
        if matrix.shape != (len(labels), len(labels)):
            raise RunError(
                f"expected distances of {len(labels)} clients in {path}, found {matrix.shape}"
            )
        return labels, matrix


def read_run(path: Path) -> RunFiles:
    """Read a run directory."""
    if not (path / "settings.json").is_file():
        raise RunError(
            f"expected a run directory with settings.json at {path}, found "
            f"{'a folder without' if path.is_dir() else 'no folder'}"
        )
    documents = {
        name: _document(path / f"{name}.json")
        for name in ("settings", "plan", "clusters", "summary")
    }
    return RunFiles(
        path=path,
        rounds=_lines(path / "rounds.jsonl"),
        clients=_clients(path / "clients.csv"),
        **documents,
    )


def jaccard(masks: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return, for each two of k masks, the weights active in both over those active in either.

    Masks are packed bits, all of one length. The result [k, k] is symmetric, 1 on the diagonal (and
    for two empty masks). Two independent masks of density d have d / (2 - d).
    """
    bits = [np.unpackbits(mask) for mask in masks]
    overlap = np.ones((len(bits), len(bits)))
    for i, one in enumerate(bits):
        for j, other in enumerate(bits[:i]):
            either = int(np.count_nonzero(one | other))
            both = int(np.count_nonzero(one & other))
            overlap[i, j] = overlap[j, i] = both / either if either else 1.0
    return overlap


def _text(path: Path) -> str:
    """Return what the file says; nothing, where a run was cut short before it wrote it."""
    if not path.is_file():
        return ""
    with reading(path, RunError):
        size = path.stat().st_size
        if size > _TEXT_LIMIT:
            raise RunError(f"expected at most {_TEXT_LIMIT} bytes in {path}, found {size}")
        return path.read_text(encoding="utf-8")


def _document(path: Path) -> dict[str, Any]:
    with reading(f"JSON in {path}", RunError):
        value = json.loads(_text(path) or "{}")
    if not isinstance(value, dict):
        raise RunError(f"expected a JSON object in {path}, found {type(value).__name__}")
    return value


def _lines(path: Path) -> list[dict[str, Any]]:
    text = _text(path)
    with reading(f"a JSON object in each line of {path}", RunError):
        # What stands behind the last line break was torn by a crash.
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _clients(path: Path) -> list[ClientRecord]:
    with reading(f"a row of numbers for each client in {path}", RunError):
        return [_client(row) for row in csv.DictReader(io.StringIO(_text(path), newline=""))]


def _client(row: Mapping[str, str]) -> ClientRecord:
    values: dict[str, Any] = {}
    for column in fields(ClientRecord):
        text = row.get(column.name, "")
        if column.name == "label":
            values["label"] = from_csv_cell(text)
        elif column.type is int:
            values[column.name] = int(text)
        else:
            values[column.name] = float(text) if text else None
    return ClientRecord(**values)


def _tensor(path: Path, name: str) -> tuple[NDArray[Any], dict[str, str]]:
    arrays, metadata = read_tensors(path)
    if name not in arrays:
        found = ", ".join(sorted(arrays)) or "none"
        raise RunError(f"expected a tensor {name!r} in {path}, found {found}")
    return arrays[name], metadata
