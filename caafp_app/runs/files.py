"""Files that are whole or not there: atomic writes, and lines that survive a crash."""

import contextlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caafp_app.errors import RunError


def plain(value: object) -> Any:
    """Return `value` in JSON's types: NaN and infinities become None, keys become text.

    Arrays have no such form: they belong into safetensors.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, Path)):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise RunError(
        f"a value of type {type(value).__qualname__} cannot be written as JSON; expected numbers, "
        "text, lists or mappings of them"
    )


def write_json(path: Path, value: object, *, private: bool = False) -> None:
    """Write `value` to `path` as indented JSON that ends in a newline, as `write_atomic` does."""
    text = json.dumps(plain(value), indent=2, allow_nan=False)
    write_atomic(path, (text + "\n").encode(), private=private)


def write_atomic(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write `content` to `path` as `replaced` does; a private file is its owner's alone to read."""
    mode = 0o600 if private else 0o666
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    # Made with its mode: at no moment may others read a private file.
    with replaced(path) as temporary, os.fdopen(os.open(temporary, flags, mode), "wb") as file:
        file.write(content)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Let `path` be written so that a reader, or a crash, sees the old file or the new one.

    What is written to the temporary file of the same folder, whose path is yielded, reaches the
    disk, and then takes the name. Raises RunError if that cannot be; the old file is unchanged
    then.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def append_line(path: Path, line: str) -> None:
    """Append one line to `path` and wait until it is on the disk.

    What a crash left of an unfinished line is removed first, so that every line is whole.

    Raises RunError if `line` holds a line break, or the file cannot be written.
    """
    if "\n" in line:
        raise RunError("a line to append must not hold a line break")
    try:
        with path.open("a+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(
        f"cannot write {path}: {error.strerror or error}; make room or set output-dir to a folder "
        "that can be written"
    )
