"""Arrays that somebody else made: read with bounds, and checked before anything relies on them."""

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from caafp_app.datasets.base import FloatArray, IntArray
from caafp_app.errors import DataError
from caafp_app.registry import hint

MAX_BYTES = 4 * 2**30
"""Largest array file that is read, unpacked: a small archive may claim to unpack to any size."""

LABEL_LENGTH = 100
"""Characters of the longest name of a client."""

AnyArray = npt.NDArray[Any]


def window_rows(samples: int, time: int, stride: int) -> IntArray:
    """Return which samples make up each window of ``time`` samples, one every ``stride``.

    int64 ``[n, time]``, row numbers: ``n = 1 + (samples - time) // stride``, or 0 where the
    recording is shorter than a window. What is left at the end is dropped.
    """
    starts = np.arange(0, samples - time + 1, stride)
    return starts[:, None] + np.arange(time)


def read_npz(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, AnyArray]:
    """Read named arrays of an ``.npz`` file: all `required`, and the `optional` ones it has.

    Raises DataError if it is no NPZ file, or an array is missing, of Python objects, or too large.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: expected an .npz file, found {'a folder' if path.is_dir() else 'nothing'}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {
                info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()
            }
        missing = [name for name in required if name not in sizes]
        if missing:
            raise DataError(
                f"{path}: expected the arrays {', '.join(required)}, found "
                f"{', '.join(sizes) or 'none'}; add {', '.join(missing)}"
            )
        wanted = [name for name in (*required, *optional) if name in sizes]
        total = sum(sizes[name] for name in wanted)
        if total > MAX_BYTES:
            raise DataError(
                f"{path}: expected arrays of at most {MAX_BYTES / 2**30:g} GiB, found "
                f"{total / 2**30:.1f} GiB"
            )
        with np.load(path, allow_pickle=False) as data:
            return {name: _plain(data, name, path) for name in wanted}
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: expected an .npz file that is whole, found {error}") from error
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path}: expected plain arrays, found one that cannot be read ({error})"
        ) from error


def _plain(data: Mapping[str, AnyArray], name: str, path: Path) -> AnyArray:
    """Return one array, or say which one holds Python objects."""
    try:
        return data[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{path}: expected {name} to be numbers or strings, found Python objects, which may "
            f"hold anything; save {name}.astype(str), or .astype(float)"
        ) from error


def as_windows(x: AnyArray, where: str) -> FloatArray:
    """Return real numbers ``x`` [n, *input_shape] as float32 windows; ``where`` is named in errors.

    Raises DataError if there are none, or one is no number that float32 can hold.
    """
    if x.dtype.kind not in "fiu" or x.ndim < 2 or 0 in x.shape:
        raise DataError(
            f"{where}: expected X to be numbers [windows, time, channels] with at least one "
            f"window, found {x.dtype} {list(x.shape)}"
        )
    with np.errstate(over="ignore"):
        windows = np.ascontiguousarray(x, dtype=np.float32)
    finite = np.isfinite(windows.reshape(len(windows), -1)).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{where}: expected finite values, found NaN or infinity in {int((~finite).sum())} of "
            f"{len(windows)} windows, first in window {int(np.argmin(finite))}; drop or repair them"
        )
    return windows


def as_names(values: AnyArray, where: str) -> tuple[str, ...]:
    """Return the entries of ``label_names`` as strings."""
    if values.dtype.kind not in "US" or values.ndim != 1:
        raise DataError(
            f"{where}: expected label_names to be a list of strings, "
            f"found {values.dtype} {list(values.shape)}"
        )
    # np.char.decode would refuse the str arrays that are the usual case.
    names = tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in values)
    if len(set(names)) != len(names) or not all(names):
        raise DataError(
            f"{where}: expected label_names to differ and not to be empty, found {names}"
        )
    return names


def labels_of(
    y: AnyArray, names: tuple[str, ...] | None, count: int, where: str
) -> tuple[IntArray, tuple[str, ...]]:
    """Return labels ``[count]`` as classes ``0..k-1``, and the names of the classes.

    Without `names` they are the values that occur, ascending. Raises DataError if they are no
    labels, or one is none of the names.
    """
    numbers = _whole(y, "y", count, where)
    if numbers is None:
        codes, found = _codes(y, "y", count, where)
    elif names is None:
        found, codes = np.unique(numbers, return_inverse=True)
    elif numbers.min() < 0 or numbers.max() >= len(names):
        raise DataError(
            f"{where}: expected labels 0..{len(names) - 1} ({len(names)} classes), found "
            f"{numbers.min()}..{numbers.max()}"
        )
    else:
        return numbers, names
    own = tuple(str(value) for value in found)
    if names is None:
        return codes.astype(np.int64), own
    unknown = [name for name in own if name not in names]
    if unknown:
        raise DataError(
            f"{where}: expected labels of {', '.join(names)}, found {', '.join(unknown[:5])}"
            f"{hint(unknown[0], names)}"
        )
    return np.array([names.index(name) for name in own], np.int64)[codes], names


def users_of(user: AnyArray, count: int, where: str) -> tuple[IntArray, tuple[str, ...]]:
    """Return users as numbers, and their names where they have any; else DataError."""
    numbers = _whole(user, "user", count, where)
    if numbers is not None:
        return numbers, ()
    codes, found = _codes(user, "user", count, where)
    # Labels of clients: printable, different, and not too long.
    clean = [re.sub(r"[^\w.+=@ -]", "_", str(name))[:LABEL_LENGTH] for name in found]
    return codes, tuple(
        name if clean.count(name) == 1 else f"{name[: LABEL_LENGTH - 6]}-{place:05d}"
        for place, name in enumerate(clean)
    )


def _whole(values: AnyArray, name: str, count: int, where: str) -> IntArray | None:
    """Return whole numbers as int64, also those saved as float; None where they are none."""
    if values.dtype.kind == "f":
        fits = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**53)
        values = values.astype(np.int64) if fits.all() else values
    if values.dtype.kind not in "iu":
        return None
    if values.shape != (count,):
        raise DataError(
            f"{where}: expected {name} to be {count} whole numbers, one per window, "
            f"found {values.dtype} {list(values.shape)}"
        )
    return values.astype(np.int64)


def _codes(values: AnyArray, name: str, count: int, where: str) -> tuple[IntArray, AnyArray]:
    """Return strings as int64 numbers ``0..``, and what they stand for, ascending.

    Raises DataError if there is another number of values, or of another kind, or an empty string.
    """
    if values.dtype.kind not in "bUS" or values.shape != (count,):
        raise DataError(
            f"{where}: expected {name} to be {count} whole numbers or strings, one per window, "
            f"found {values.dtype} {list(values.shape)}"
        )
    if values.dtype.kind == "S":
        # np.char.decode would refuse what is not UTF-8.
        values = np.array([value.decode("utf-8", "replace") for value in values])
    if values.dtype.kind == "U":
        values = np.char.strip(values)
        empty = np.flatnonzero(values == "")
        if len(empty):
            raise DataError(
                f"{where}: expected a {name} for every window, found an empty one for window "
                f"{int(empty[0])}"
            )
    different, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.int64), different
