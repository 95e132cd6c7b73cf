import hashlib
import time
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.app.message import array as flwr_array
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caafp_app.errors import ProtocolError
from caafp_app.protocol.payload import attach
from caafp_app.runs import size
from caafp_app.runs.size import message_bytes

MakeMessage = Callable[..., Message]


def deflated(message: Message) -> int:
    """Bytes of all distinct objects as Flower itself makes them."""
    return sum(len(part.deflate()) for part in get_all_nested_objects(message).values())


names = st.text(
    st.characters(codec="utf-8"), max_size=12
)  # quotes, controls and letters beyond ASCII: JSON escapes them
dtypes = st.sampled_from(["float32", "float16", "int8", "uint8", "int64", "bool"])
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
).map(Array)
array_records = st.dictionaries(names, arrays, max_size=4).map(ArrayRecord)
whole = st.integers(-(2**63), 2**64 - 1)
numbers = st.one_of(
    whole,
    st.floats(),
    st.lists(whole, max_size=3).filter(lambda v: min(v, default=0) >= 0),
    st.lists(st.floats(), max_size=3),
)
metrics = st.dictionaries(names, numbers, max_size=4).map(MetricRecord)
values = st.one_of(
    numbers,
    st.booleans(),
    names,
    st.binary(max_size=40),
    st.lists(names, max_size=3),
    st.lists(st.binary(max_size=9), max_size=3),
)
configs = st.dictionaries(names, values, max_size=4).map(ConfigRecord)
contents = st.builds(
    lambda free, ours, header: RecordDict({**free, **ours, **header}),
    st.dictionaries(names, st.one_of(array_records, metrics, configs), max_size=4),
    st.dictionaries(st.just(size.ARRAYS), array_records),
    st.dictionaries(st.just(size.HEADER), configs),
)


@given(content=contents)
@settings(deadline=None, max_examples=200)
def test_sum_is_what_flower_serialises(message: MakeMessage, content: RecordDict) -> None:
    # Small values collide now and then, so this covers equal objects as well.
    found = message_bytes(message(content))
    assert sum(found.values()) == deflated(message(content))
    assert all(size > 0 for size in found.values())


@given(
    data=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2)), max_size=4),
    chunk=st.integers(1, 70),
)
@settings(deadline=None, max_examples=100)
def test_chunks_and_equal_chunks(
    message: MakeMessage, data: list[tuple[int, int]], chunk: int
) -> None:
    content = RecordDict(
        {"m": ArrayRecord({str(i): Array(np.full(n, v, "u1")) for i, (n, v) in enumerate(data)})}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flwr_array, "FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE", chunk)
        patch.setattr(size, "CHUNK_BYTES", chunk)
        assert sum(message_bytes(message(content)).values()) == deflated(message(content))


def test_big_arrays_are_not_hashed(message: MakeMessage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("hashed")

    content = RecordDict({"m": ArrayRecord({"w": Array(np.ones(3_000_000, dtype=np.float32))})})
    big = message(content)
    monkeypatch.setattr(hashlib, "sha256", refuse)
    started = time.perf_counter()
    found = message_bytes(big)
    assert time.perf_counter() - started < 0.5
    assert found["arrays"] == 12_000_000 + 128


def test_bytes_are_counted_by_kind(message: MakeMessage) -> None:
    values, other = np.arange(10, dtype="f4"), np.arange(5, dtype="f2")
    content = RecordDict(
        {
            "caafp": ConfigRecord({"version": 1, "layout": b"l" * 50, "phase": "prune"}),
            "caafp.arrays": ArrayRecord(
                {
                    "values": Array(values),
                    "other/a": Array(other),
                    "other/b": Array(other + 1),
                    "mask": Array(np.zeros(2, dtype="u1")),
                }
            ),
            "model": ArrayRecord({"values": Array(values + 1)}),
            "metrics": MetricRecord({"accuracy": 0.5}),
            "config": ConfigRecord({"lr": 0.1, "blob": b"12345"}),
        }
    )
    found = message_bytes(message(content))
    assert found["values"] == 128 + 40
    assert found["other"] == 2 * (128 + 10)
    assert found["mask"] == 128 + 2
    assert found["arrays"] == 128 + 40
    assert found["layout"] == 50
    body = {name: record.deflate().partition(b"\0")[2] for name, record in content.items()}
    assert found["header"] == len(body["caafp"]) - 50
    assert found["metrics"] == len(body["metrics"])
    assert found["config"] == len(body["config"])
    rest = sum(found.values()) - found["envelope"]
    assert found["envelope"] == deflated(message(content)) - rest > 0
    assert set(found) == {
        *("values", "other", "mask", "arrays", "layout", "header", "metrics", "config", "envelope")
    }


@pytest.mark.parametrize("reason", [None, "", "the client ran out of memory: é"])
def test_an_error_reply_is_all_envelope(message: MakeMessage, reason: str | None) -> None:
    reply = message(error=Error(470, reason))
    assert message_bytes(reply) == {"envelope": deflated(reply)}


@pytest.mark.parametrize("value", [2**64, "\ud800"])
def test_what_cannot_travel_is_refused_by_name(message: MakeMessage, value: int | str) -> None:
    content = RecordDict({"user-config": ConfigRecord({"a": value})})
    with pytest.raises(ProtocolError, match="user-config"):
        message_bytes(message(content))


def test_arrays_that_travel_in_the_header_count_by_their_name(message: MakeMessage) -> None:
    sent = {"values": np.ones(100, np.float32), "other/a:b": np.ones(3, np.int64)}
    records = RecordDict({size.HEADER: ConfigRecord({"round": 1})})
    plain = message_bytes(message(records))
    attach(records, sent)
    counted = message_bytes(message(records))
    assert (counted["values"], counted["other"]) == (400, 24)
    assert counted["header"] < plain["header"] + 80
    assert sum(counted.values()) == deflated(message(records))
