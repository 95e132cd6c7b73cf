"""The run directory: where the files of one run go, and how they are named.

::

    <output-dir>/runs/<name>/
        settings.json  plan.json  rounds.jsonl  clients.csv  clusters.json  summary.json
        models/<cluster>.safetensors  masks/<cluster>.safetensors  distances.safetensors
    <output-dir>/runs/latest -> <name>
"""

import csv
import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as to_safetensors

from caafp_app.errors import RunError, SettingsError
from caafp_app.runs.files import append_line, write_atomic, write_json
from caafp_app.runs.records import ClientRecord, RoundRecord

SUMMARY_KEYS = (
    "strategy",
    "dataset",
    "seed",
    "rounds",
    "clients",
    "clusters",
    "accuracy.cluster.mean",
    "accuracy.cluster.std",
    "accuracy.cluster.min",
    "accuracy.personal.mean",
    "accuracy.personal.std",
    "accuracy.personal.min",
    "sparsity.personal_min",
    "sparsity.cluster_mean",
    "bytes.down",
    "bytes.up",
    "bytes.total",
    "bytes.formula_total",
    "seconds.total",
    "seconds.rounds",
    "seconds.startup",
)
"""What ``summary.json`` holds at least; a dot stands for one level of nesting."""

_LATEST = "latest"
_LATEST_FILE = "latest.txt"
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+=@,-]{0,118}[A-Za-z0-9_+=@-])?")
_TENSOR_KINDS = "biuf"
"""Kinds of numpy dtypes that safetensors keeps: bool, integers, floats."""


def default_home() -> Path:
    """Return the folder of everything this package keeps: ``$CAAFP_HOME``, or ``~/.caafp``."""
    return Path(os.environ.get("CAAFP_HOME") or Path("~") / ".caafp").expanduser()


@dataclass(frozen=True)
class RunDirectory:
    """Files of one run. Every write is atomic; rounds are appended line by line.

    Attributes
    ----------
    path : Path
        An existing folder. `create` makes a new one; the constructor takes one that is there.
    """

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
        """Make the folder of a new run and point ``latest`` to it.

        Parameters
        ----------
        output_dir : str or Path
            Runs go to ``runs/`` below it; empty: `default_home`.
        run_name : str
            Name of the folder; empty: ``<YYYYmmdd-HHMMSS>-<strategy>-<dataset>-<seed>``, local
            time. A name that is taken gets ``-2``, ``-3`` and so on.
        strategy, dataset, seed
            Parts of the default name.
        now : datetime, optional
            The time in the default name.

        Raises
        ------
        SettingsError
            If the name is not one plain file name, or the folder cannot be made.
        """
        stamp = (now or datetime.now()).strftime("%Y%m%d-%H%M%S")
        name = check_name(run_name or f"{stamp}-{strategy}-{dataset}-{seed}", "run-name")
        runs = (Path(output_dir).expanduser() if output_dir else default_home()) / "runs"
        try:
            runs.mkdir(parents=True, exist_ok=True)
            path = _make_unique(runs.resolve(), name)
        except OSError as error:
            raise SettingsError(
                f"cannot make a run directory in {runs}: {error.strerror or error}; set output-dir "
                "to a folder that can be written"
            ) from error
        _point_latest_to(path)
        return cls(path)

    def write_settings(self, settings: Mapping[str, object]) -> None:
        """Write the resolved settings to ``settings.json``."""
        write_json(self.path / "settings.json", settings)

    def write_plan(self, plan: Mapping[str, object]) -> None:
        """Write the plan of rounds to ``plan.json``."""
        write_json(self.path / "plan.json", plan)

    def append_round(self, record: RoundRecord) -> None:
        """Append one line to ``rounds.jsonl``; it is on the disk when this returns."""
        append_line(self.path / "rounds.jsonl", json.dumps(record.to_json(), allow_nan=False))

    def cut_rounds(self, last: int) -> None:
        """Remove what ``rounds.jsonl`` has of rounds after `last`: they are run again."""
        path = self.path / "rounds.jsonl"
        if path.is_file():
            text = path.read_bytes()
            whole = text[: text.rfind(b"\n") + 1].splitlines(keepends=True)
            kept = [line for line in whole if int(json.loads(line)["round"]) <= last]
            write_atomic(path, b"".join(kept))

    def note(self) -> str:
        """Return how the clusters came about, as ``clusters.json`` has it; empty if unknown."""
        try:
            found = json.loads((self.path / "clusters.json").read_text(encoding="utf-8"))
            return str(found["note"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def write_clients(self, clients: Iterable[ClientRecord]) -> None:
        """Write ``clients.csv``: one row per client, unknown values empty."""
        text = io.StringIO(newline="")
        columns = [column.name for column in fields(ClientRecord)]
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(client.to_json() for client in clients)
        write_atomic(self.path / "clients.csv", text.getvalue().encode())

    def write_clusters(self, clusters: Mapping[str, object]) -> None:
        """Write ``clusters.json``."""
        write_json(self.path / "clusters.json", clusters)

    def write_distances(self, labels: Sequence[str], distances: NDArray[np.floating]) -> None:
        """Write the clients' distances [n, n] to ``distances.safetensors``, labels as metadata."""
        tensors = {"distances": _storable("distances", distances.astype(np.float32))}
        content = to_safetensors(tensors, {"labels": json.dumps(list(labels))})
        write_atomic(self.path / "distances.safetensors", content)

    def write_model(
        self,
        name: str,
        arrays: Mapping[str, NDArray[Any]],
        metadata: Mapping[str, str] | None = None,
    ) -> Path:
        """Write arrays of any shapes to ``models/<name>.safetensors`` and return its path.

        Raises
        ------
        RunError
            If an array is neither of bools, integers nor floats.
        """
        return self._write_tensors("models", name, arrays, metadata)

    def write_mask(
        self, name: str, packed: NDArray[np.uint8], metadata: Mapping[str, str] | None = None
    ) -> Path:
        """Write packed mask bits to ``masks/<name>.safetensors`` (tensor ``mask``)."""
        return self._write_tensors("masks", name, {"mask": packed}, metadata)

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Write ``summary.json``.

        Raises
        ------
        RunError
            If one of `SUMMARY_KEYS` is not there; nothing is written then.
        """
        missing = [key for key in SUMMARY_KEYS if not _holds(summary, key)]
        if missing:
            raise RunError(f"the summary lacks {', '.join(missing)}; build it by build_summary")
        write_json(self.path / "summary.json", summary)

    def _write_tensors(
        self,
        folder: str,
        name: str,
        arrays: Mapping[str, NDArray[Any]],
        metadata: Mapping[str, str] | None,
    ) -> Path:
        path = self.path / folder / f"{check_name(name, 'the name of a model')}.safetensors"
        tensors = {key: _storable(key, array) for key, array in arrays.items()}
        write_atomic(path, to_safetensors(tensors, dict(metadata) if metadata else None))
        return path


def find_run(name: str, output_dir: str | Path = "") -> Path:
    """Return the folder of a run that is named by its path, or by its name below `output_dir`.

    Parameters
    ----------
    name : str
        A path; or a name in ``runs/`` of `output_dir`, ``latest`` among them.
    output_dir : str or Path
        As of `RunDirectory.create`; empty: `default_home`.

    Raises
    ------
    SettingsError
        There is neither.
    """
    path = Path(name).expanduser()
    runs = (Path(output_dir).expanduser() if output_dir else default_home()) / "runs"
    if path.is_dir():
        return path.resolve()
    if len(path.parts) == 1 and path.name == name:
        latest = runs / _LATEST_FILE
        if name == _LATEST and not (runs / _LATEST).is_dir() and latest.is_file():
            name = check_name(latest.read_text(encoding="utf-8").strip(), "the name in latest.txt")
        if (runs / name).is_dir():
            return (runs / name).resolve()
    raise SettingsError(
        f"expected the folder of a run, or the name of one in {runs}, found {name!r}"
    )


def check_name(name: str, what: str) -> str:
    """Return `name` if it is one plain file name, so that what it names stays in its folder.

    Raises
    ------
    SettingsError
        If it is empty, too long, reserved, starts with a dot, or holds separators or blanks.
    """
    if not _NAME.fullmatch(name) or name in (_LATEST, _LATEST_FILE):
        raise SettingsError(
            f"{what} must be a file name of at most 120 letters, digits and . _ - + = @ , that "
            f"starts with a letter, digit or _ and is not {_LATEST!r}; found {name!r}"
        )
    return name


def _make_unique(runs: Path, name: str) -> Path:
    """Make the first of name, name-2, name-3 ... that is not there (safe against other runs)."""
    number = 1
    while True:
        path = runs / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def _point_latest_to(path: Path) -> None:
    link = path.with_name(_LATEST)
    temporary = path.with_name(f".{_LATEST}.{secrets.token_hex(4)}.tmp")
    try:
        # A link cannot be changed in place: a new one takes its name in one step. It is relative,
        # so that the folder can be moved.
        temporary.symlink_to(path.name, target_is_directory=True)
        temporary.replace(link)
    except (OSError, NotImplementedError):
        # No links on this file system, no right to make one, or a folder of that name.
        temporary.unlink(missing_ok=True)
        write_atomic(path.with_name(_LATEST_FILE), f"{path.name}\n".encode())
    else:
        path.with_name(_LATEST_FILE).unlink(missing_ok=True)


def _storable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in _TENSOR_KINDS or array.dtype.itemsize > 8:
        raise RunError(
            f"array {name!r} has dtype {array.dtype}; safetensors keeps bools, integers and floats "
            "of at most 64 bits"
        )
    # safetensors reads the memory as it lies: it must be in C order and of native byte order.
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def _holds(summary: Mapping[str, object], key: str) -> bool:
    level: object = summary
    for part in key.split("."):
        if not isinstance(level, Mapping) or part not in level:
            return False
        level = level[part]
    return True
