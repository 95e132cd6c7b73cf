from enum import StrEnum
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from caafp_app.errors import ProtocolError
from caafp_app.protocol.header import HEADER, MAX_BLOB, PROTOCOL_VERSION, Header, is_ours


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def header(**fields: Any) -> Header:
    return Header(RecordDict({HEADER: ConfigRecord({"version": PROTOCOL_VERSION, **fields})}))


def test_values_come_as_they_were_sent() -> None:
    read = header(t="x", w=3, n=0.5, f=True, b=b"ab", c="blue", ns=["red", "blue"], ws=[0, 7])
    assert read.text("t") == "x"
    assert read.whole("w") == 3
    assert read.number("n") == 0.5
    assert read.flag("f") is True
    assert read.blob("b") == b"ab"
    assert read.choice("c", Colour) is Colour.BLUE
    assert read.names("ns", 2, ["blue", "red", "green"]) == ["red", "blue"]
    assert read.wholes("ws") == (0, 7)
    assert "w" in read
    assert "x" not in read


def test_missing_fields_take_their_defaults() -> None:
    read = header()
    assert read.text("t", "d") == "d"
    assert read.whole("w", -1, low=-1) == -1
    assert read.number("n", 0.0) == 0
    assert read.blob("b", b"") == b""
    assert read.wholes("ws") == ()


READERS = {
    "text": lambda h: h.text("k"),
    "whole": lambda h: h.whole("k"),
    "number": lambda h: h.number("k"),
    "flag": lambda h: h.flag("k"),
    "blob": lambda h: h.blob("k"),
    "choice": lambda h: h.choice("k", Colour),
    "names": lambda h: h.names("k", 1, ["a"]),
}


@pytest.mark.parametrize("kind", READERS)
def test_a_missing_field_is_named(kind: str) -> None:
    with pytest.raises(ProtocolError, match=r"header 'k': expected .*, found nothing"):
        READERS[kind](header())


VALUES: dict[str, Any] = {
    "text": "x",
    "whole": 1,
    "number": 0.5,
    "flag": True,
    "blob": b"x",
    "names": ["a"],
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("sent", [*VALUES, "whole-list"])
def test_a_field_of_another_type_is_refused(kind: str, sent: str) -> None:
    value = VALUES.get(sent, [1])
    if kind == sent:
        READERS[kind](header(k=value))
        return
    with pytest.raises(ProtocolError, match="header 'k': expected"):
        READERS[kind](header(k=value))


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("text", "x" * 1001, "at most 1000 characters, found 1001"),
        ("whole", -1, "from 0 to"),
        ("whole", 2**63, "from 0 to"),
        ("number", float("nan"), "finite"),
        ("number", float("-inf"), "finite"),
        ("blob", b"x" * (MAX_BLOB + 1), "at most 16777216 bytes"),
        ("choice", "green", "expected one of red, blue; found 'green'"),
        ("names", ["a", "a"], "expected 1 texts, found 2"),
        ("names", [], "expected 1 texts, found 0"),
        ("names", ["b"], "expected one of a; found 'b'"),
    ],
)
def test_a_field_out_of_range_is_refused(kind: str, value: Any, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        READERS[kind](header(k=value))


@pytest.mark.parametrize("value", [[-1], [1, 2**63], ["1"], [True], [0.0], 3, [0] * 100_001])
def test_lists_of_whole_numbers(value: Any) -> None:
    with pytest.raises(ProtocolError, match="header 'k': expected"):
        header(k=value).wholes("k")


def test_bounds_of_a_whole_number() -> None:
    assert header(k=5).whole("k", low=5, high=5) == 5
    for bounds in ({"low": 6}, {"high": 4}):
        with pytest.raises(ProtocolError, match="found 5"):
            header(k=5).whole("k", **bounds)


@pytest.mark.parametrize("version", [PROTOCOL_VERSION + 1, 0, "1", 1.0, True, None])
def test_another_version_is_refused(version: Any) -> None:
    record = ConfigRecord({} if version is None else {"version": version})
    with pytest.raises(ProtocolError, match="version"):
        Header(RecordDict({HEADER: record}))


def test_version_message_says_what_to_do() -> None:
    with pytest.raises(
        ProtocolError, match="version 2 found, this side speaks 1: install the same"
    ):
        Header(RecordDict({HEADER: ConfigRecord({"version": 2})}))


@pytest.mark.parametrize("records", [{}, {HEADER: ArrayRecord()}, {"other": ConfigRecord()}])
def test_records_without_a_header_are_not_ours(records: dict[str, Any]) -> None:
    assert not is_ours(RecordDict(records))
    with pytest.raises(ProtocolError, match=r"is sparse_mod among the mods"):
        Header(RecordDict(records))
    assert is_ours(RecordDict({HEADER: ConfigRecord()}))
