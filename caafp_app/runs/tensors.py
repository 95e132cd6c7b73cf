"""Safetensors files: the one way that this package writes and reads arrays on disk."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from caafp_app.errors import RunError, reading
from caafp_app.runs.files import replaced

PRIVATE = 0o600
"""Mode of a file that its owner alone may read."""

_KINDS = "biuf"
_LIMIT = 2**35


class Tensors(NamedTuple):
    """What a file holds: arrays by name, of any shape, and texts by name."""

    arrays: dict[str, NDArray[Any]]
    metadata: dict[str, str]


def write_tensors(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
    *,
    mode: int = 0o666,
) -> None:
    """Write a file whole, or leave the old one as it is; its folder is made if it is not there.

    Arrays are of bools, integers or floats of at most 64 bits, in any memory order. `mode` are the
    permissions of the file, less the umask's: `PRIVATE`, say.

    Raises RunError if an array has another dtype, or the file cannot be written.
    """
    tensors = {name: storable(name, array) for name, array in arrays.items()}
    with replaced(path) as temporary:
        temporary.touch(mode, exist_ok=False)
        permissions = stat.S_IMODE(temporary.stat().st_mode)
        try:
            save_file(tensors, temporary, dict(metadata) if metadata else None)
        except SafetensorError as error:  # its own for whatever the system refuses
            raise OSError(str(error)) from error
        temporary.chmod(permissions)  # some releases of safetensors write a file of their own


def read_tensors(path: Path, *, limit: int = _LIMIT) -> Tensors:
    """Read a file, of unknown origin perhaps; one of more than `limit` bytes is refused unopened.

    Memory is taken for what the file holds, whatever its header says. Raises RunError if there is
    none, or it is too large, damaged or of dtypes that numpy does not know.
    """
    with reading(f"a safetensors file at {path}", RunError):
        size = path.stat().st_size
        if size > limit:
            raise RunError(f"expected at most {limit} bytes in {path}, found {size}")
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            # With ml_dtypes imported, as JAX does, numpy knows more dtypes; nothing here does.
            odd = [str(a.dtype) for a in arrays.values() if a.dtype.kind not in _KINDS]
            if odd:
                raise TypeError(f"dtype {odd[0]}")
            return Tensors(arrays, file.metadata() or {})


def storable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in C order and native byte order: safetensors reads memory as it lies.

    Raises RunError if it is neither of bools, integers nor floats.
    """
    if array.dtype.kind not in _KINDS or array.dtype.itemsize > 8:
        raise RunError(
            f"array {name!r} has dtype {array.dtype}; safetensors keeps bools, integers and floats "
            "of at most 64 bits"
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
