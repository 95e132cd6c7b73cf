import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import given, settings

from caafp_app.errors import ProtocolError
from caafp_app.protocol.header import HEADER
from caafp_app.protocol.payload import ARRAYS, INLINE_BYTES, attach, attached, detached
from tests.protocol.support import Arrays, by_wire, models, same


def message(arrays: Arrays) -> RecordDict:
    records = RecordDict({HEADER: ConfigRecord({"round": 3}), "config": ConfigRecord({"lr": 0.1})})
    attach(records, arrays)
    return records


@settings(deadline=None, max_examples=100)
@given(models)
def test_arrays_come_out_as_they_went_in(arrays: Arrays) -> None:
    """Any names, dtypes and shapes: 0-d and empty ones too."""
    records = by_wire(message(arrays))
    found = attached(records)
    assert found.keys() == arrays.keys()
    assert same({name: found[name] for name in arrays}, arrays)
    assert all(not array.flags.writeable for array in found.values())
    assert {name: dict(record) for name, record in detached(records).items()} == {
        HEADER: {"round": 3},
        "config": {"lr": 0.1},
    }
    assert same(attached(records), found)  # which `detached` has left as it was


def test_small_arrays_cost_no_object() -> None:
    small = {"values": np.zeros(100, np.float32), "mask": np.zeros(9, np.uint8)}
    assert len(get_all_nested_objects(message(small))) == len(get_all_nested_objects(message({})))


def test_large_arrays_travel_as_a_record() -> None:
    limit = INLINE_BYTES - 1
    for size, large in ((limit, False), (limit + 1, True)):
        arrays = {"values": np.arange(size, dtype=np.uint8), "rest": np.ones(1, np.uint8)}
        records = message(arrays)
        assert (ARRAYS in records) == large
        assert same(attached(by_wire(records)), arrays)
        assert set(detached(records)) == {HEADER, "config"}


BAD = {
    "@<f4:3:values": b"\0" * 11,
    "@<f4:-3:values": b"\0" * 12,
    "@<f4:3 :values": b"\0" * 12,
    "@>f4:3:values": b"\0" * 12,
    "@|O8:1:values": b"\0" * 8,
    "@<f5:1:values": b"\0" * 5,
    "@<U1:1:values": b"\0" * 4,
    "@values": b"",
    "@<f4:values": b"",
    "@|b1:2:values": b"\0\2",
    "@<f4:" + ",".join(["1"] * 66) + ":values": b"\0" * 4,
    f"@<f4:{10**18},{10**18}:values": b"\0" * 4,
    f"@<f4:{10**18},0,{10**18}:values": b"",
}


@pytest.mark.parametrize("key", BAD)
def test_bytes_are_not_trusted(key: str) -> None:
    records = message({})
    records.config_records[HEADER][key] = BAD[key]
    with pytest.raises(ProtocolError, match="array"):
        attached(by_wire(records))


@pytest.mark.parametrize("value", ["abcd", 7, [b"abcd"]])
def test_what_is_no_bytes_is_no_array(value: str | int | list[bytes]) -> None:
    records = message({})
    records.config_records[HEADER]["@<f4:1:values"] = value
    with pytest.raises(ProtocolError, match="not an array"):
        attached(records)


def test_a_name_comes_once() -> None:
    arrays = {"values": np.zeros(INLINE_BYTES + 1, np.uint8)}
    records = message(arrays)
    records.config_records[HEADER]["@<f4:1:values"] = b"\0" * 4
    with pytest.raises(ProtocolError, match="twice"):
        attached(records)
    records = message({"values": np.zeros(1, np.float32)})
    records.config_records[HEADER]["@<f4:2:values"] = b"\0" * 8
    with pytest.raises(ProtocolError, match="twice"):
        attached(records)
