"""Checkpoints: all that the server needs to go on after a round, in one file that is whole.

``checkpoints/round-0012.safetensors``: the arrays as tensors, everything else as JSON in the
metadata, with where each array belongs, a version and a SHA-256 over all of it. A file takes its
name when it is on the disk, so a crash leaves the one before.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import RunError, reading
from caafp_app.runs.tensors import PRIVATE, read_tensors, storable, write_tensors

VERSION = 2
FOLDER = "checkpoints"
_NAME = re.compile(r"round-(\d{4,9})\.safetensors")
_TEXT_LIMIT = 256 * 1024 * 1024
"""Bytes of the longest JSON that is read."""
_Place = tuple[str | int, ...]

State = dict[str, Any]
"""What a part of a run saves, and is restored from: nested dicts and lists, of arrays and of what
JSON knows. Keys come back as strings, tuples as lists, floats as they were, bit by bit; arrays are
of bools, integers or floats."""


class Saved(NamedTuple):
    """A checkpoint that was read: the number of its round, and the state after it."""

    round: int
    state: State


def damaged(why: str) -> RunError:
    """Return the error of a checkpoint that is whole and yet not one of this run."""
    return RunError(f"the checkpoint does not fit this run: {why}; resume with the same release")


def last_round(folder: Path) -> int:
    """Return the round of the newest checkpoint in a folder; 0 if there is none."""
    return max(_files(folder), default=0)


def _files(folder: Path) -> dict[int, Path]:
    """Return the files by their round, the oldest first."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.glob("round-*.safetensors"))
    return dict(sorted((int(match[1]), path) for match, path in found if match))


class Checkpoints:
    """The checkpoints of one run: the last two, one `every` so many rounds (0: none).

    `terms` are what a run that goes on must have in common with the one that saved: its settings,
    without those that may change, in JSON's types.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every: int = 1,
        terms: Mapping[str, object] | None = None,
    ) -> None:
        self.folder = folder
        self.every = every
        self.terms = dict(terms or {})

    def due(self, round_: int, total: int) -> bool:
        """Tell whether to save after this round; after the last one always."""
        return self.every > 0 and (round_ % self.every == 0 or round_ == total)

    def save(self, round_: int, state: State) -> Path:
        """Write the state after a round, and remove those that are too old.

        Raises RunError if the file cannot be written; those before are as they were.
        """
        path = self.folder / f"round-{round_:04d}.safetensors"
        found: dict[_Place, NDArray[Any]] = {}
        facts = _without_arrays(state, (), found)
        text = json.dumps(
            {"round": round_, "terms": self.terms, "facts": facts, "places": list(found)}
        )
        tensors = {
            str(number): storable("/".join(map(str, place)), array)
            for number, (place, array) in enumerate(found.items())
        }
        metadata = {"version": str(VERSION), "state": text, "sha256": _digest(text, tensors)}
        write_tensors(path, tensors, metadata, mode=PRIVATE)
        for old in [*_files(self.folder).values()][:-2]:
            old.unlink(missing_ok=True)
        return path

    def load(self) -> Saved:
        """Read the newest.

        Raises RunError if there is none, it is damaged, of another version, or of a run with other
        settings; what to do is said.
        """
        paths = [*_files(self.folder).values()]
        if not paths:
            raise RunError(
                f"expected a checkpoint to resume from in {self.folder}, found none: the run "
                "ended, was never saved (checkpoint-every=0), or did not come so far; start anew"
            )
        round_, terms, state = _read(paths[-1], paths[:-1])
        for key in sorted(self.terms.keys() | terms.keys()):
            # Through JSON, as the other went.
            mine = json.loads(json.dumps(self.terms.get(key)))
            if mine != terms.get(key):
                raise RunError(
                    f"{key}: expected {terms.get(key)!r}, as in the run to resume, found {mine!r}; "
                    "give the settings that it began with, or start a new run"
                )
        return Saved(round_, state)

    def clear(self) -> None:
        """Remove all of them: the run has ended."""
        for path in _files(self.folder).values():
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _read(path: Path, older: Sequence[Path]) -> tuple[int, dict[str, Any], State]:
    try:
        arrays, metadata = read_tensors(path)
        text = metadata.get("state", "")
        if len(text) > _TEXT_LIMIT or metadata.get("sha256") != _digest(text, arrays):
            raise RunError("its SHA-256 is another than the one it was saved with")
        if metadata.get("version") == str(VERSION):
            with reading("its state", RunError):
                told = json.loads(text)
                for number, place in enumerate(told["places"]):
                    part = told["facts"]
                    for key in place[:-1]:
                        part = part[key]
                    part[place[-1]] = arrays[str(number)]
                return int(told["round"]), dict(told["terms"]), dict(told["facts"])
    except RunError as error:
        # Not the first that is whole: what a run goes on from is for its operator to say.
        before = f"the one before is {older[-1].name}" if older else "there is none before it"
        raise RunError(
            f"checkpoint {path} is damaged ({error}); {before}: "
            + ("remove the damaged file to go on from there" if older else "start a new run")
        ) from error
    raise RunError(
        f"checkpoint {path} has version {metadata.get('version')}, this release reads {VERSION}; "
        "resume with the release that saved it"
    )


def _without_arrays(part: Any, place: _Place, found: dict[_Place, NDArray[Any]]) -> Any:
    """Return a part of a state without its arrays, which are put into `found`."""
    if isinstance(part, np.ndarray):
        found[place] = part
        return None
    if isinstance(part, Mapping):
        return {str(k): _without_arrays(v, (*place, str(k)), found) for k, v in part.items()}
    if isinstance(part, list | tuple):
        return [_without_arrays(one, (*place, n), found) for n, one in enumerate(part)]
    return part


def _digest(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    sha = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"\n{name}\n{array.dtype.str}{list(array.shape)}\n".encode())
        sha.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return sha.hexdigest()
