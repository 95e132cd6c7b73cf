"""Where the folders of runs lie, how they are named, and how one is found again."""

import contextlib
import os
import re
import secrets
from pathlib import Path

from caafp_app.errors import SettingsError
from caafp_app.runs.files import write_atomic

_LATEST = "latest"
_LATEST_FILE = "latest.txt"
_RESERVED = ".reserved"
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+=@,-]{0,118}[A-Za-z0-9_+=@-])?")


def default_home() -> Path:
    """Return the folder of everything this package keeps: ``$CAAFP_HOME``, or ``~/.caafp``.

    Raises SettingsError if neither is known: this user has no home directory.
    """
    try:
        return Path(os.environ.get("CAAFP_HOME") or Path("~") / ".caafp").expanduser()
    except RuntimeError as error:
        raise SettingsError(
            "expected a home directory to keep results in, found none for this user; set "
            "CAAFP_HOME, or the setting output-dir, to a folder that can be written"
        ) from error


def reserve_folder(name: str, output_dir: str | Path = "") -> Path:
    """Make the folder of a run that another process will do, and keep it for that process.

    Law: two calls never return the same folder; the next `make_folder` of exactly this name, whose
    errors are the same, takes it.
    """
    path = _made(name, output_dir)
    (path / _RESERVED).touch()
    return path


def is_reserved(path: Path) -> bool:
    """Tell whether a folder waits for the run that it was made for."""
    return (path / _RESERVED).exists()


def release_folder(path: Path) -> None:
    """Remove a reserved folder that no run has taken."""
    if is_reserved(path):
        (path / _RESERVED).unlink()
        path.rmdir()


def make_folder(name: str, output_dir: str | Path = "") -> Path:
    """Make the folder of a run in ``runs/`` below `output_dir`, by default `default_home`.

    It is the one reserved for this run, or a new one.

    A name that is taken gets ``-2``, ``-3`` and so on. ``latest`` then points to it. Raises
    SettingsError if the name is not one plain file name, or the folder cannot be made.
    """
    path = _folder_of_runs(output_dir) / check_name(name, "run-name")
    try:
        # Only one process can remove the mark: the folder is handed on once.
        (path / _RESERVED).unlink()
        path = path.resolve()
    except OSError:
        path = _made(name, output_dir)
    _point_latest_to(path)
    return path


def _made(name: str, output_dir: str | Path) -> Path:
    """Make the first of name, name-2, name-3 ... that is not there (safe against other runs)."""
    path = runs = _folder_of_runs(output_dir)
    made, number = check_name(name, "run-name"), 1
    try:
        runs.mkdir(parents=True, exist_ok=True)
        while True:
            path = runs.resolve() / made
            number += 1
            made = f"{name}-{number}"
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    except OSError as error:
        raise SettingsError(
            f"cannot make a run directory in {runs}: {error.strerror or error}; set output-dir "
            "to a folder that can be written"
        ) from error


def find_run(name: str, output_dir: str | Path = "") -> Path:
    """Return the folder of a run: a path, or a name in ``runs/`` below `output_dir`.

    ``latest`` is such a name too. Raises SettingsError if there is neither.
    """
    path = Path(name).expanduser()
    runs = _folder_of_runs(output_dir)
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
    """Return `name` if it is one plain file name, so that what it names stays in its folder."""
    if not _NAME.fullmatch(name) or name in (_LATEST, _LATEST_FILE):
        raise SettingsError(
            f"{what} must be a file name of at most 120 letters, digits and . _ - + = @ , that "
            f"starts with a letter, digit or _ and is not {_LATEST!r}; found {name!r}"
        )
    return name


def _folder_of_runs(output_dir: str | Path) -> Path:
    return (Path(output_dir).expanduser() if output_dir else default_home()) / "runs"


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
