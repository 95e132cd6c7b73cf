"""The run directory: how the files of one run, which docs/runs.md lists, are written."""

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import RunError, reading
from caafp_app.runs.files import append_line, plain, write_atomic, write_json
from caafp_app.runs.place import check_name, make_folder
from caafp_app.runs.records import ClientRecord, RoundRecord
from caafp_app.runs.tensors import write_tensors
from caafp_app.safe_text import csv_cell, is_label

_LONGEST_NAME = 200
"""Bytes of a file's name; file systems take 255, of which a temporary name has some more."""


@dataclass(frozen=True)
class RunDirectory:
    """Files of one run, in a folder that exists; `create` makes a new one. Writes are atomic."""

    path: Path

    @classmethod
    def create(
        cls,
        output_dir: str | Path = "",
        run_name: str = "",
        *,
        strategy: str,
        dataset: str,
        seed: int,
        now: datetime | None = None,
    ) -> "RunDirectory":
        """Make the folder of a new run and point ``latest`` to it; see `place.make_folder`.

        Without a name it is ``<YYYYmmdd-HHMMSS>-<strategy>-<dataset>-<seed>``, local time.
        """
        stamp = (now or datetime.now()).strftime("%Y%m%d-%H%M%S")
        name = run_name or f"{stamp}-{strategy}-{dataset}-{seed}"
        return cls(make_folder(name, output_dir))

    def write(self, name: str, content: Mapping[str, object]) -> None:
        """Write ``<name>.json``: ``settings``, ``plan``, ``clusters`` or ``summary``."""
        write_json(self.path / f"{name}.json", content)

    def append_round(self, record: RoundRecord) -> None:
        """Append one line to ``rounds.jsonl``; it is on the disk when this returns."""
        append_line(self.path / "rounds.jsonl", json.dumps(plain(vars(record)), allow_nan=False))

    def cut_rounds(self, last: int) -> None:
        """Remove what ``rounds.jsonl`` has of rounds after `last`: they are run again."""
        path = self.path / "rounds.jsonl"
        if path.is_file():
            text = path.read_bytes()
            whole = text[: text.rfind(b"\n") + 1].splitlines(keepends=True)
            with reading(path, RunError):
                kept = [line for line in whole if int(json.loads(line)["round"]) <= last]
            write_atomic(path, b"".join(kept))

    def note(self) -> str:
        """Return how the clusters came about, as ``clusters.json`` has it; empty if unknown."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads((self.path / "clusters.json").read_text("utf-8"))["note"])
        return ""

    def changes(self) -> list[dict[str, Any]]:
        """Return the changes of groups, as ``rounds.jsonl`` has them, each with its round."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            lines = (self.path / "rounds.jsonl").read_text("utf-8").splitlines()
            records = [json.loads(line) for line in lines]
            return [{"round": r["round"], **one} for r in records for one in r.get("changes", [])]
        return []

    def write_clients(self, clients: Iterable[ClientRecord]) -> None:
        """Write ``clients.csv``: one row per client, unknown values empty; see `csv_cell`."""
        text = io.StringIO(newline="")
        columns = [column.name for column in fields(ClientRecord)]
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        for client in clients:
            writer.writerow({name: csv_cell(v) for name, v in plain(vars(client)).items()})
        write_atomic(self.path / "clients.csv", text.getvalue().encode())

    def write_distances(self, labels: Sequence[str], distances: NDArray[np.floating]) -> None:
        """Write the clients' distances [n, n] to ``distances.safetensors``, labels as metadata."""
        tensors = {"distances": distances.astype(np.float32)}
        told = {"labels": json.dumps(list(labels))}
        write_tensors(self.path / "distances.safetensors", tensors, told)

    def write_model(
        self,
        name: str,
        arrays: Mapping[str, NDArray[Any]],
        metadata: Mapping[str, str] | None = None,
        folder: str = "models",
    ) -> Path:
        """Write arrays of any shapes to ``<folder>/<name>.safetensors``; return its path."""
        path = self.path / folder / f"{check_name(name, 'the name of a model')}.safetensors"
        write_tensors(path, arrays, metadata)
        return path

    def write_mask(
        self, name: str, packed: NDArray[np.uint8], metadata: Mapping[str, str] | None = None
    ) -> Path:
        """Write packed mask bits to ``masks/<name>.safetensors`` (tensor ``mask``)."""
        return self.write_model(name, {"mask": packed}, metadata, "masks")

    def write_key(self, label: str, key: str) -> None:
        """Write a device's public key to ``devices/<label>.pub``, if a file can have that name."""
        name = f"{label}.pub"
        if is_label(label) and len(name.encode()) <= _LONGEST_NAME:
            folder = self.path / "devices"
            folder.mkdir(exist_ok=True)
            write_atomic(folder / name, f"{key}\n".encode())
