"""The published UCI HAR archive in any form it comes: a folder, a zip, or a zip in a zip."""

import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from caafp_app.errors import DataError

SPLITS = ("train", "test")
SIGNALS = tuple(
    f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"
)
"""The channels in the order of the arrays made of them."""

Root: TypeAlias = Path | zipfile.Path
"""The folder, or the place in a zip, of ``train`` and ``test``."""

_INNER = "UCI HAR Dataset.zip"
_FOLDER = "UCI HAR Dataset"
_MAX_INNER = 512 * 2**20
_MAX_MEMBER = 256 * 2**20


def members(split: str) -> tuple[str, ...]:
    """Return the files of one split: a path per signal, then labels, then subjects."""
    signals = (f"{split}/Inertial Signals/{signal}_{split}.txt" for signal in SIGNALS)
    return (*signals, f"{split}/y_{split}.txt", f"{split}/subject_{split}.txt")


ALL_MEMBERS = tuple(member for split in SPLITS for member in members(split))


def find_archive(place: Path) -> Path:
    """Return the folder or zip that is the archive, or that lies in this folder.

    Raises DataError if nothing of the kind is there.
    """
    if place.is_file():
        return place
    if any((place / split).is_dir() for split in SPLITS):
        return place
    if (place / _FOLDER).is_dir():
        return place / _FOLDER
    for path in [place / _INNER, *sorted(place.glob("*.zip"))]:
        if path.is_file() and _is_har(path):
            return path
    found = "nothing" if not place.exists() else "neither of them"
    raise DataError(
        f"data-dir {place}: expected the published UCI HAR archive (a folder {_FOLDER!r} with "
        f"train and test, {_INNER!r}, or the zip that holds it), found {found}"
    )


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Root]:
    """Open the archive at ``path``, a folder or a zip, and check that all its files are there.

    Raises DataError if files are missing, the zip is damaged, or it is another archive.
    """
    with contextlib.ExitStack() as stack:
        root: Root = path
        if not path.is_dir():
            try:
                root = _inside(stack.enter_context(zipfile.ZipFile(path)), path)
            except zipfile.BadZipFile as error:
                raise DataError(
                    f"{path}: expected a zip archive that is whole, found {error}"
                ) from error
        missing = [member for member in ALL_MEMBERS if not root.joinpath(member).is_file()]
        if missing:
            raise DataError(
                f"{path}: expected the {len(ALL_MEMBERS)} files of the UCI HAR inertial signals, "
                f"found {len(ALL_MEMBERS) - len(missing)}; missing: {', '.join(missing[:4])}"
                f"{', ...' if len(missing) > 4 else ''}"
            )
        yield root


def _inside(zipped: zipfile.ZipFile, path: Path) -> zipfile.Path:
    """Return the folder that has ``train`` and ``test``, in a zip or in the zip inside it."""
    inner = _inner(zipped)
    if inner is not None:
        _check_size(inner, _MAX_INNER, path)
        # In memory, because members of a compressed stream can only be reached by reading it from
        # the start.
        zipped = zipfile.ZipFile(io.BytesIO(zipped.read(inner)))
    for info in zipped.infolist():
        _check_size(info, _MAX_MEMBER, path)
    roots = _roots(zipped)
    if not roots:
        raise DataError(
            f"{path}: expected the UCI HAR archive (files such as {ALL_MEMBERS[0]!r}), found "
            "another one; the archive of raw experiments or of postural transitions does not serve"
        )
    return zipfile.Path(zipped, min(roots, key=len))


def _check_size(info: zipfile.ZipInfo, limit: int, path: Path) -> None:
    if info.file_size > limit:
        raise DataError(
            f"{path}: expected {info.filename} to be at most {limit / 2**20:.0f} MiB, "
            f"found {info.file_size / 2**20:.0f} MiB"
        )


def _names(zipped: zipfile.ZipFile) -> list[str]:
    # The published zip was made on a Mac, and shadows every file with one of resource forks.
    return [name for name in zipped.namelist() if not name.startswith("__MACOSX/")]


def _inner(zipped: zipfile.ZipFile) -> zipfile.ZipInfo | None:
    """Return the zip inside the zip, when that is where the files are."""
    found = (name for name in _names(zipped) if PurePosixPath(name).name == _INNER)
    return next(map(zipped.getinfo, found), None)


def _roots(zipped: zipfile.ZipFile) -> set[str]:
    return {
        name[: -len(member)]
        for name in _names(zipped)
        for member in ALL_MEMBERS
        if name == member or name.endswith(f"/{member}")
    }


def _is_har(path: Path) -> bool:
    with contextlib.suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as zipped:
        return _inner(zipped) is not None or bool(_roots(zipped))
    return False
