"""Whether an app that a server sends is the one that is imported here already."""

import hashlib
import importlib.util
import io
import sys
import zipfile
from pathlib import Path, PurePosixPath

_MAX_FILES = 10_000


def forget_other_code(fab: bytes) -> bool:
    """Drop the imported packages of which the app brings other code; it then imports its own.

    `fab` is the app as Flower sends it, a zip file. Returns whether nothing was dropped.
    """
    same = True
    with zipfile.ZipFile(io.BytesIO(fab)) as archive:
        names = [name for name in archive.namelist() if name.endswith(".py")][:_MAX_FILES]
        for package in {PurePosixPath(name).parts[0].removesuffix(".py") for name in names}:
            if package in sys.modules and not _is_same(archive, names, package):
                same = False
                for name in [n for n in sys.modules if n.partition(".")[0] == package]:
                    del sys.modules[name]
    return same


def _is_same(archive: zipfile.ZipFile, names: list[str], package: str) -> bool:
    """Compare the app's files of a package with those that it was imported from."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return False
    folder = Path(spec.origin).parent
    for name in names:
        parts = PurePosixPath(name).parts
        if parts[0] != package:
            continue
        here = folder.joinpath(*parts[1:])
        if not here.is_file() or _digest(here.read_bytes()) != _digest(archive.read(name)):
            return False
    return True


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
