"""Messages as an attacker would send them: valid ones with a few things wrong.

Headers lose fields, get others, of other types and out of any range; arrays are cut, lengthened,
renamed, said to be what they are not, and their bytes are flipped; records go, come twice and take
each other's names.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from caafp_app.protocol.arrays import ARRAYS
from caafp_app.protocol.header import HEADER

Rng = np.random.Generator

NUMBERS: list[Any] = [
    *(0, 1, -1, 2, 255, 256, 2**31, 2**53, 2**63 - 1, -(2**63)),
    *(0.0, -0.0, 1e-300, 1e300, -1.5, float("nan"), float("inf"), float("-inf")),
    *(True, False),
]
TEXTS = ["", "x", "float32", "float16", "int8", "train", "describe", "x" * 1001, "\0", "ü" * 99]
NAMES = [
    *("values", "rest", "mask", "layout", "mask-digest", "mask-base", "gradient-index"),
    *("gradient-value", "gradient-scale", "gradient-counts", "codecs", "version", "round"),
    *("action", "label", "examples", "population", "arrays-key", "config-key", "other/x"),
    *("@<f4:4:values", "@|u1:999999999999:mask", "@<f8::rest", "@<f4:4,-1:values", "@"),
    *("@|O8:1:values", "@<f4:18446744073709551615,18446744073709551615:values", "@|b1:0:mask"),
]


def mutated(records: RecordDict, rng: Rng) -> RecordDict:
    """Return a copy with one to four things wrong."""
    copy = RecordDict({name: _copied(record) for name, record in records.items()})
    for _ in range(int(rng.integers(1, 5))):
        change = CHANGES[int(rng.integers(len(CHANGES)))]
        change(copy, rng)
    return copy


def _copied(record: Any) -> Any:
    if isinstance(record, ArrayRecord):
        return ArrayRecord(dict(record))
    return type(record)(dict(record))


def _one_of(things: Any, rng: Rng) -> Any:
    things = list(things)
    return things[int(rng.integers(len(things)))] if things else None


def junk(rng: Rng) -> Any:
    """Any value that a ConfigRecord takes."""
    kind = int(rng.integers(6))
    if kind == 0:
        return _one_of(NUMBERS, rng)
    if kind == 1:
        return _one_of(TEXTS, rng)
    if kind == 2:
        return rng.bytes(int(rng.integers(0, 64)))
    if kind == 3:
        return [int(n) for n in rng.integers(-3, 2**40, int(rng.integers(0, 6)))]
    if kind == 4:
        return [float(n) for n in rng.normal(size=int(rng.integers(0, 4)))]
    return [str(_one_of(TEXTS, rng)) for _ in range(int(rng.integers(0, 5)))]


def _header(records: RecordDict) -> ConfigRecord | None:
    record = records.get(HEADER)
    return record if isinstance(record, ConfigRecord) else None


def drop_field(records: RecordDict, rng: Rng) -> None:
    header = _header(records)
    if header:
        del header[_one_of(header, rng)]


def junk_field(records: RecordDict, rng: Rng) -> None:
    header = _header(records)
    if header is not None:
        name = _one_of(header, rng) if header and rng.random() < 0.7 else _one_of(NAMES, rng)
        header[name] = junk(rng)


def flip_bytes(records: RecordDict, rng: Rng) -> None:
    """Flip bits of any field of bytes: an array, a layout."""
    header = _header(records)
    fields = [] if header is None else [k for k, v in header.items() if isinstance(v, bytes) and v]
    if header is not None and fields:
        name = _one_of(fields, rng)
        content = bytearray(header[name])  # type: ignore[arg-type]
        for _ in range(int(rng.integers(1, 9))):
            content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        header[name] = bytes(content)


def resize_bytes(records: RecordDict, rng: Rng) -> None:
    header = _header(records)
    fields = [] if header is None else [k for k, v in header.items() if isinstance(v, bytes)]
    if header is not None and fields:
        name = _one_of(fields, rng)
        content = bytes(header[name])  # type: ignore[arg-type]
        cut = int(rng.integers(len(content) + 1))
        header[name] = content[:cut] + rng.bytes(int(rng.integers(0, 9)))


def restate_array(records: RecordDict, rng: Rng) -> None:
    """Say another dtype, shape or name of an array's bytes."""
    header = _header(records)
    keys = [] if header is None else [k for k in header if k.startswith("@")]
    if header is None or not keys:
        return
    key = _one_of(keys, rng)
    content = header.pop(key)
    parts = [*key[1:].split(":", 2), "", "", ""][:3]
    place = int(rng.integers(3))
    others = (
        ["<f2", "<f4", "<f8", "|u1", "|b1", "<c16", "|O8", "<f3", "", ">f4", "<i4"],
        ["", "0", "1", "4", "3,0", "99999999999", "-1", "2,2,2", "1," * 40, "00000004", "9" * 19],
        [*NAMES, "other/", "", ":::", "values"],
    )
    parts[place] = str(_one_of(others[place], rng))
    header["@" + ":".join(parts)] = content


def vast_layout(records: RecordDict, rng: Rng) -> None:
    """Describe a model that would not fit any memory."""
    header = _header(records)
    if header is not None:
        axis = int(_one_of([2**16, 2**31, 2**33, 2**62, 10**18, -1, 0], rng))
        row = f'["w", [{axis}, {axis}], "float32", 1]'
        count = int(_one_of([1, 3, 5000], rng))
        rows = "[" * 100_000 if rng.random() < 0.1 else f"[{', '.join([row] * count)}]"
        header["layout"] = rows.encode()


def to_record(records: RecordDict, rng: Rng) -> None:
    """Add the ArrayRecord of large messages, with an array that lies about itself."""
    data = rng.bytes(int(rng.integers(0, 200)))
    if rng.random() < 0.7:
        kept = np.zeros(int(rng.integers(0, 9)), np.float32)
        data = Array(kept).data[: int(rng.integers(1, 200))]
        spot = int(rng.integers(len(data))) if data else 0
        data = data[:spot] + bytes([int(rng.integers(256))]) + data[spot + 1 :]
    shape = _one_of([(4,), (2**40,), (), (0, 3), (-1,)], rng)
    array = Array(str(_one_of(["float32", "object", "int8", "<V9"], rng)), shape, _stype(rng), data)
    records[ARRAYS] = ArrayRecord({str(_one_of(NAMES, rng)): array})


def _stype(rng: Rng) -> str:
    return str(_one_of(["numpy.ndarray", "torch.tensor", ""], rng))


def drop_record(records: RecordDict, rng: Rng) -> None:
    if records:
        del records[_one_of(records, rng)]


def other_record(records: RecordDict, rng: Rng) -> None:
    """Put another kind of record where one is expected, or one more."""
    name = str(_one_of([*records, HEADER, ARRAYS, "arrays", "config", "caafp.gradient"], rng))
    kinds = [
        ConfigRecord({str(_one_of(NAMES, rng)): junk(rng)}),
        MetricRecord({"num-examples": _one_of([1, -1, 0, 10**12, 1.5, float("nan")], rng)}),
        ArrayRecord([np.zeros(3, np.float32)]),
    ]
    records[name] = _one_of(kinds, rng)


def junk_metric(records: RecordDict, rng: Rng) -> None:
    for record in records.metric_records.values():
        value = _one_of([*NUMBERS[:16], [1, 2], [0.5]], rng)
        record["num-examples"] = value


CHANGES: list[Callable[[RecordDict, Rng], None]] = [
    drop_field,
    junk_field,
    junk_field,
    flip_bytes,
    flip_bytes,
    resize_bytes,
    restate_array,
    vast_layout,
    to_record,
    drop_record,
    other_record,
    junk_metric,
]
