"""The arrays of a message: small ones in its header, in one object; large ones as an ArrayRecord.

Each object costs a request with 850 bytes of HTTP, and an array takes two (see ARCHITECTURE.md). So
arrays that together take no more than one of Flower's own chunks travel as bytes of the header's
ConfigRecord, under the key

    @<dtype>:<shape>:<name>         e.g.  @<f4:128:values   @|u1:64,3:other/steps

To an app of somebody else's they travel as an ArrayRecord of the user's own name, so that a mod
which counts or logs arrays finds them where it looks. The header's ``record`` is that name.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.arrays import ARRAYS, as_plain, from_record, to_record, view_of
from caafp_app.protocol.header import HEADER

INLINE_BYTES = 1 << 22
"""Arrays of more than this in all travel as an ArrayRecord, which Flower sends in chunks."""

RECORD = "record"
_MARK = "@"
_UPDATE = "update/"
_KEY = re.compile(
    r"@(?P<dtype>[<|][biufc]\d{1,2}):(?P<shape>(?:\d{1,19}(?:,\d{1,19}){0,63})?):(?P<name>.*)",
    re.DOTALL,
)


def attach(
    records: RecordDict,
    arrays: Mapping[str, NDArray[Any]],
    record: str = "",
    *,
    update: bool = False,
) -> None:
    """Add arrays to a message that has its header already; none add nothing.

    Parameters
    ----------
    record : str
        Name of the ArrayRecord to send them in; empty: the shorter way.
    update : bool
        Name the arrays in it as an update. A mod that takes a reply's arrays for a model, because
        they have the request's names, then says so instead of changing what is no model.
    """
    if record:
        prefix = _UPDATE if update else ""
        records[record] = to_record({prefix + name: array for name, array in arrays.items()})
        records.config_records[HEADER][RECORD] = record
        return
    if sum(array.nbytes for array in arrays.values()) > INLINE_BYTES:
        records[ARRAYS] = to_record(arrays)
        return
    header = records.config_records[HEADER]
    for name, array in arrays.items():
        plain = as_plain(name, array)
        shape = ",".join(map(str, plain.shape))
        header[f"{_MARK}{plain.dtype.str}:{shape}:{name}"] = plain.tobytes()


def attached(records: RecordDict) -> dict[str, NDArray[Any]]:
    """Return the arrays of a message, as read-only views, whichever way they came.

    Raises ProtocolError if an array's bytes do not fit what is said of them, or a name comes twice.
    """
    header = records.get(HEADER)
    sent = from_record(records, _record_of(header))
    arrays = {name.removeprefix(_UPDATE): array for name, array in sent.items()}
    if isinstance(header, ConfigRecord):
        for key, value in header.items():
            if key.startswith(_MARK):
                name, array = _read(key, value)
                if name in arrays:
                    raise ProtocolError(f"array {name!r} comes twice")
                arrays[name] = array
    return arrays


def detached(records: RecordDict) -> RecordDict:
    """Return a message's records without its arrays; the records themselves are not changed."""
    header = records.get(HEADER)
    ours = (ARRAYS, _record_of(header))
    kept = RecordDict({name: record for name, record in records.items() if name not in ours})
    if isinstance(header, ConfigRecord):
        fields = {key: value for key, value in header.items() if not key.startswith(_MARK)}
        kept[HEADER] = ConfigRecord(fields)
    return kept


def _record_of(header: object) -> str:
    name = header.get(RECORD) if isinstance(header, ConfigRecord) else None
    return name if isinstance(name, str) and name != HEADER else ARRAYS


def _read(key: str, value: object) -> tuple[str, NDArray[Any]]:
    found = _KEY.fullmatch(key)
    if found is None or not isinstance(value, bytes):
        raise ProtocolError(f"header {key[:80]!r}: not an array")
    name = found["name"]
    try:
        dtype = np.dtype(found["dtype"])
    except TypeError as error:
        raise ProtocolError(f"array {name!r}: no such dtype: {error}") from error
    shape = tuple(int(axis) for axis in found["shape"].split(",") if axis)
    if math.prod(shape) * dtype.itemsize != len(value):
        raise ProtocolError(f"array {name!r}: {dtype} {shape} does not fit its {len(value)} bytes")
    return name, view_of(name, np.frombuffer(value, dtype=np.uint8), dtype, shape)
