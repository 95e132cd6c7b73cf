"""The published UCI HAR archive in any form it comes: a folder, a zip, or a zip in a zip."""

import contextlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from caafp_app.errors import DataError

SPLITS = ("train", "test")
SIGNALS = tuple(
    f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"
)
"""The channels in the order of the arrays made of them."""

_INNER = "UCI HAR Dataset.zip"
_FOLDER = "UCI HAR Dataset"
_MAX_INNER = 512 * 2**20
_MAX_MEMBER = 256 * 2**20


def members(split: str) -> tuple[str, ...]:
    """Return the files of one split: a path per signal, then labels, then subjects."""
    signals = (f"{split}/Inertial Signals/{signal}_{split}.txt" for signal in SIGNALS)
    return (*signals, f"{split}/y_{split}.txt", f"{split}/subject_{split}.txt")


ALL_MEMBERS = tuple(member for split in SPLITS for member in members(split))


@dataclass(frozen=True)
class Archive:
    """An open archive: its name, and the folder or place in a zip of ``train`` and ``test``."""

    where: str
    root: Path | zipfile.Path

    def open(self, member: str) -> IO[bytes]:
        """Open one of `members` for reading."""
        return self.root.joinpath(member).open("rb")

    def missing(self) -> list[str]:
        """Return the files of the published archive that are not in this one."""
        return [member for member in ALL_MEMBERS if not self.root.joinpath(member).is_file()]


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
        if path.is_file() and zipfile.is_zipfile(path) and _is_har(path):
            return path
    found = "nothing" if not place.exists() else "neither of them"
    raise DataError(
        f"data-dir {place}: expected the published UCI HAR archive (a folder {_FOLDER!r} with "
        f"train and test, {_INNER!r}, or the zip that holds it), found {found}"
    )


def archive_files(path: Path) -> list[Path]:
    """Return the files that the archive consists of, for telling whether one has changed."""
    if path.is_file():
        return [path]
    return [path / member for member in ALL_MEMBERS if (path / member).is_file()]


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open the archive at ``path``, a folder or a zip, and check that all its files are there.

    Raises DataError if files are missing, the zip is damaged, or it is another archive.
    """
    with contextlib.ExitStack() as stack:
        if path.is_dir():
            archive = Archive(str(path), path)
        else:
            try:
                zipped = stack.enter_context(zipfile.ZipFile(path))
                inner = _inner(zipped)
                if inner is not None:
                    zipped = stack.enter_context(zipfile.ZipFile(_unpacked(zipped, inner, path)))
            except zipfile.BadZipFile as error:
                raise DataError(
                    f"{path}: expected a zip archive that is whole, found {error}"
                ) from error
            _check_sizes(zipped, path)
            archive = Archive(str(path), zipfile.Path(zipped, _root(zipped, path)))
        missing = archive.missing()
        if missing:
            raise DataError(
                f"{path}: expected the {len(ALL_MEMBERS)} files of the UCI HAR inertial signals, "
                f"found {len(ALL_MEMBERS) - len(missing)}; missing: {', '.join(missing[:4])}"
                f"{', ...' if len(missing) > 4 else ''}"
            )
        yield archive


def _names(zipped: zipfile.ZipFile) -> list[str]:
    # The published zip was made on a Mac, and shadows every file with one of resource forks.
    return [name for name in zipped.namelist() if not name.startswith("__MACOSX/")]


def _inner(zipped: zipfile.ZipFile) -> zipfile.ZipInfo | None:
    """Return the zip inside the zip, when that is where the files are."""
    for name in _names(zipped):
        if PurePosixPath(name).name == _INNER:
            return zipped.getinfo(name)
    return None


def _unpacked(zipped: zipfile.ZipFile, inner: zipfile.ZipInfo, path: Path) -> io.BytesIO:
    if inner.file_size > _MAX_INNER:
        raise DataError(
            f"{path}: expected {inner.filename} to be at most {_MAX_INNER / 2**20:.0f} MiB, "
            f"found {inner.file_size / 2**20:.0f} MiB"
        )
    # In memory, because members of a compressed stream can only be reached by reading it from the
    # start.
    return io.BytesIO(zipped.read(inner))


def _check_sizes(zipped: zipfile.ZipFile, path: Path) -> None:
    """Refuse members that unpack to more than any published one does."""
    for info in zipped.infolist():
        if info.file_size > _MAX_MEMBER:
            raise DataError(
                f"{path}: expected files of at most {_MAX_MEMBER / 2**20:.0f} MiB, found "
                f"{info.file_size / 2**20:.0f} MiB for {info.filename}"
            )


def _roots(zipped: zipfile.ZipFile) -> set[str]:
    return {
        name[: -len(member)]
        for name in _names(zipped)
        for member in ALL_MEMBERS
        if name == member or name.endswith(f"/{member}")
    }


def _root(zipped: zipfile.ZipFile, path: Path) -> str:
    """Return the path of the folder inside the zip that has ``train`` and ``test``."""
    roots = _roots(zipped)
    if not roots:
        raise DataError(
            f"{path}: expected the UCI HAR archive (files such as {ALL_MEMBERS[0]!r}), found "
            "another one; the archive of raw experiments or of postural transitions does not serve"
        )
    return min(roots, key=len)


def _is_har(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as zipped:
            return _inner(zipped) is not None or bool(_roots(zipped))
    except zipfile.BadZipFile:
        return False
