"""numpy arrays as Flower's records hold them, in npy format, and back without trusting the bytes.

Flower's own ``Array.numpy()`` takes the memory that an array's header claims before it looks at
what was sent, and copies. Here the header must be just what ``np.save`` writes, and agree with the
stated dtype and shape and with the number of bytes.
"""

import math
import re
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Literal

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from numpy.lib import format as npy
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError

ARRAYS = "caafp.arrays"
"""Name of the ArrayRecord that holds the arrays of this protocol."""

_STYPE = "numpy.ndarray"
_MAGIC = npy.magic(1, 0)
_HEADER = re.compile(
    rb"\{'descr': '(?P<descr>[<>|][biufc]\d{1,2})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:\d{1,19},)?|\d{1,19}(?:, \d{1,19}){1,63})\), \} *\n"
)


def to_record(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Wrap arrays for sending; each is copied once."""
    return ArrayRecord({name: to_array(name, array) for name, array in arrays.items()})


def from_record(records: RecordDict, name: str = ARRAYS) -> dict[str, NDArray[Any]]:
    """Unwrap the arrays of one ArrayRecord, as read-only views; none if there is no such record."""
    record = records.get(name)
    if not isinstance(record, ArrayRecord):
        return {}
    return {key: read_array(key, array) for key, array in record.items()}


def to_array(name: str, array: NDArray[Any]) -> Array:
    """Wrap one array of plain numbers; the bytes are those of ``np.save``, in one copy."""
    plain = as_plain(name, array)
    head = BytesIO()
    npy.write_array_header_1_0(head, npy.header_data_from_array_1_0(plain))
    data = b"".join((head.getvalue(), plain.reshape(-1).view(np.uint8).data))
    return Array(str(plain.dtype), plain.shape, _STYPE, data)


def as_plain(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return an array in C order and this machine's byte order, itself where it is so.

    Raises ProtocolError if it is not of plain numbers.
    """
    plain = _native(np.asarray(array, order="C"))
    if plain.dtype.kind not in "biufc":
        raise ProtocolError(f"array {name!r}: dtype {plain.dtype} is not a plain number")
    return plain


def _native(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def read_array(name: str, array: Array) -> NDArray[Any]:
    """View one received array, read-only, without copying it but for another byte order.

    Raises ProtocolError if its bytes are not a plain npy array, or not of the stated dtype and
    shape.
    """
    dtype, shape, fortran, start = _parse(name, array.data)
    if (
        array.stype != _STYPE
        or array.dtype not in (dtype.name, dtype.str)
        or shape != tuple(array.shape)
    ):
        raise ProtocolError(
            f"array {name!r}: stated as {array.dtype} {tuple(array.shape)} ({array.stype}), "
            f"sent as {dtype} {shape}"
        )
    if math.prod(shape) * dtype.itemsize != len(array.data) - start:
        raise ProtocolError(f"array {name!r}: {dtype} {shape} does not fit its bytes")
    data = np.frombuffer(array.data, dtype=np.uint8)[start:]
    return _native(view_of(name, data, dtype, shape, "F" if fortran else "C"))


def view_of(
    name: str,
    data: NDArray[np.uint8],
    dtype: "np.dtype[Any]",
    shape: tuple[int, ...],
    order: Literal["C", "F"] = "C",
) -> NDArray[Any]:
    """View received bytes as an array; their number must fit `dtype` and `shape` already."""
    flat: NDArray[Any] = data.view(dtype)
    if dtype.kind == "b" and flat.view(np.uint8).max(initial=0) > 1:
        raise ProtocolError(f"array {name!r}: a truth value is neither 0 nor 1")
    try:
        return flat.reshape(shape, order=order)
    except ValueError as error:  # of too many axes, or empty with the others too long
        raise ProtocolError(f"array {name!r}: impossible shape {shape}") from error


def _parse(name: str, data: bytes) -> "tuple[np.dtype[Any], tuple[int, ...], bool, int]":
    """Return dtype, shape, order and the place of the first value, from an npy header."""
    start = len(_MAGIC) + 2
    length = int.from_bytes(data[start - 2 : start], "little")
    found = _HEADER.fullmatch(data[start : start + length])
    if not data.startswith(_MAGIC) or found is None:
        raise ProtocolError(
            f"array {name!r}: not a plain npy array of version 1.0, of numbers that numpy knows; "
            "send another type, such as bfloat16, as float32"
        )
    try:
        dtype = np.dtype(found["descr"].decode())
    except TypeError as error:
        raise ProtocolError(f"array {name!r}: no such dtype: {error}") from error
    shape = tuple(int(axis) for axis in found["shape"].split(b",") if axis)
    return dtype, shape, found["fortran"] == b"True", start + length
