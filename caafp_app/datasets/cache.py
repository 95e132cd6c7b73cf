"""Parsed recordings on disk: parsed once, mapped into memory by every process after that.

An entry is a folder of uncompressed ``.npy`` arrays, so that a client process reads the pages of
its own user and no others. It is written beside its place and renamed into it: there is a whole
entry or none.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from caafp_app.datasets.base import Windows
from caafp_app.errors import DataError

logger = logging.getLogger(__name__)

_VERSION = 1


def cache_dir() -> Path:
    """Return the folder of caches: ``cache`` in ``$CAAFP_HOME``, or in ``~/.caafp``.

    Raises DataError if neither is known: this user has no home directory.
    """
    home = os.environ.get("CAAFP_HOME")
    try:
        return (Path(home) if home else Path.home() / ".caafp").expanduser() / "cache"
    except RuntimeError as error:
        raise DataError(
            "expected a home directory to keep parsed data in, found none for this user; set "
            "CAAFP_HOME to a folder that can be written"
        ) from error


def signature(paths: Iterable[Path]) -> str:
    """Return 16 hex digits that change with the place, size or time of change of any of the files.

    Raises OSError if a file is not there.
    """
    digest = hashlib.sha256()
    for path in paths:
        stat = path.stat()
        digest.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold ``path`` so that no two processes parse or download the same thing at once.

    The lock goes with the process, so a killed one leaves nothing behind. Without POSIX locks the
    work may be done twice; the result is the same, because entries are renamed into place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as handle:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def cached_windows(key: str, build: Callable[[], Windows]) -> Windows:
    """Return the windows of entry ``key``, by `build` where it is not there.

    The key has to change with what is parsed: see `signature`. ``x`` is mapped from the file,
    read-only; where the cache cannot be written, what was built is returned.
    """
    entry = cache_dir() / key
    found = _read(entry)
    if found is not None:
        return found
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(entry.with_name(f"{key}.lock")))
        except OSError as error:
            logger.warning("cannot lock the cache %s (%s)", entry, error)
        found = _read(entry)  # another process may have built it meanwhile
        if found is not None:
            return found
        windows = build()
        try:
            _write(entry, windows)
        except OSError as error:
            logger.warning("cannot write the cache %s (%s): parsing again next time", entry, error)
            return windows
    return _read(entry) or windows


def _read(entry: Path) -> Windows | None:
    """Return the entry, or None where there is none that this version can read."""
    try:
        about = json.loads((entry / "about.json").read_text(encoding="utf-8"))
        if about["version"] != _VERSION:
            return None
        return Windows(
            np.load(entry / "x.npy", mmap_mode="r", allow_pickle=False),
            np.load(entry / "y.npy", allow_pickle=False),
            np.load(entry / "user.npy", allow_pickle=False),
            tuple(about["class_names"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("the cache %s is damaged (%s): parsing again", entry, error)
        return None


def _write(entry: Path, windows: Windows) -> None:
    """Write the entry in one step, in place of a damaged or older one."""
    with beside(entry) as fresh:
        for name in ("x", "y", "user"):
            np.save(fresh / f"{name}.npy", getattr(windows, name), allow_pickle=False)
        about = {"version": _VERSION, "class_names": windows.class_names}
        (fresh / "about.json").write_text(json.dumps(about), encoding="utf-8")
        if entry.exists():
            shutil.rmtree(entry)
        fresh.replace(entry)


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Make a folder beside a path to write in; what is not moved out of it is removed."""
    folder, prefix = path.parent, f"{path.name}."
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory("", prefix, folder, ignore_cleanup_errors=True) as made:
        yield Path(made)
