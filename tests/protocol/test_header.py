"""Fields one by one; that each field of each message is checked is in test_messages."""

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


READERS = {
    "text": lambda h: h.text("k"),
    "whole": lambda h: h.whole("k"),
    "number": lambda h: h.number("k"),
    "flag": lambda h: h.flag("k"),
    "blob": lambda h: h.blob("k"),
    "choice": lambda h: h.choice("k", Colour),
    "names": lambda h: h.names("k", 1, ["a"]),
}


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        *((kind, None, "header 'k': expected .*, found nothing") for kind in READERS),
        ("text", "x" * 1001, "at most 1000 characters, found 1001"),
        ("whole", -1, "from 0 to"),
        ("whole", 2**63, "from 0 to"),
        ("number", float("nan"), "finite"),
        ("number", float("-inf"), "finite"),
        ("blob", b"x" * (MAX_BLOB + 1), "at most 16777216 bytes"),
        ("choice", "green", "expected one of red, blue; found 'green'"),
        ("names", ["a", "a"], "expected 1 texts, found 2"),
        ("names", ["b"], "expected one of a; found 'b'"),
    ],
)
def test_a_field_that_is_missing_or_out_of_range_is_refused(
    kind: str, value: Any, reason: str
) -> None:
    with pytest.raises(ProtocolError, match=reason):
        READERS[kind](header() if value is None else header(k=value))


def test_bounds_of_whole_numbers() -> None:
    assert header(k=5).whole("k", low=5, high=5) == 5
    for bounds in ({"low": 6}, {"high": 4}):
        with pytest.raises(ProtocolError, match="found 5"):
            header(k=5).whole("k", **bounds)
    for value in ([1, 2**63], [0] * 100_001):
        with pytest.raises(ProtocolError, match="header 'k': expected"):
            header(k=value).wholes("k")


def test_another_version_is_told_what_to_do() -> None:
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
