"""Anybody's windows in one file, for a simulation: one user is one client.

The file, as ``numpy.savez(path, X=..., y=..., user=...)`` writes it, named by ``data-dir``:

============ ========================= ==========================================================
X            ``[n, time, channels]``   windows, each user's in the order of recording; any numbers
y            ``[n]``                   labels, whole numbers or strings
user         ``[n]``                   whose window it is, a whole number or a string
label_names  ``[k]``, may be left out  names of the classes: ``y`` is then 0..k-1, or these names
============ ========================= ==========================================================
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from caafp_app.datasets.arrays import (
    AnyArray,
    as_classes,
    as_codes,
    as_names,
    as_numbers,
    as_windows,
    read_npz,
    user_names,
    whole,
)
from caafp_app.datasets.base import DataSource, IntArray, Windows
from caafp_app.datasets.cache import signature
from caafp_app.errors import DataError
from caafp_app.registry import hint
from caafp_app.settings import DataSettings


class NpzSource(DataSource):
    """The file that ``data-dir`` names."""

    def windows(self, settings: DataSettings) -> Windows:
        """Return what the file holds; it is read once per process."""
        path = Path(settings.data_dir).expanduser()
        if not path.is_file():
            raise DataError(
                f"dataset npz: expected the file {path} (data-dir), found "
                f"{'a folder' if path.is_dir() else 'nothing'}; data-dir has to name the .npz file "
                "itself"
            )
        return _load(path, signature([path]))


@lru_cache(maxsize=2)
def _load(path: Path, _signature: str) -> Windows:
    """Read and check the file; the signature makes a changed file a different one."""
    arrays = read_npz(path, ("X", "y", "user"), ("label_names",))
    where = str(path)
    x = as_windows(arrays["X"], where)
    names = as_names(arrays["label_names"], where) if "label_names" in arrays else None
    classes, class_names = labels_of(arrays["y"], names, len(x), where)
    user, users = users_of(arrays["user"], len(x), where)
    return Windows.grouped(x, classes, user, class_names, users)


def labels_of(
    y: AnyArray, names: tuple[str, ...] | None, count: int, where: str
) -> tuple[IntArray, tuple[str, ...]]:
    """Return labels ``[count]`` as classes ``0..k-1``, and the names of the classes.

    Without `names` they are the values that occur, ascending. Raises DataError if they are no
    labels, or one is none of the names.
    """
    y = whole(y)
    if y.dtype.kind in "iu":
        return as_classes(as_numbers(y, "y", count, where), names, where)
    codes, found = as_codes(y, "y", count, where)
    if names is None:
        return codes, tuple(str(name) for name in found)
    unknown = [str(name) for name in found if str(name) not in names]
    if unknown:
        raise DataError(
            f"{where}: expected labels of {', '.join(names)}, found {', '.join(unknown[:5])}"
            f"{hint(unknown[0], names)}"
        )
    return np.array([names.index(str(name)) for name in found], np.int64)[codes], names


def users_of(user: AnyArray, count: int, where: str) -> tuple[IntArray, tuple[str, ...]]:
    """Return users as numbers, and their names where they have any; else DataError."""
    user = whole(user)
    if user.dtype.kind in "iu":
        return as_numbers(user, "user", count, where), ()
    codes, found = as_codes(user, "user", count, where)
    return codes, user_names([str(name) for name in found])
