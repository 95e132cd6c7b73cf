"""Typed access to the header of a message of unknown origin."""

import math
from collections.abc import Collection
from enum import StrEnum
from typing import TypeVar, cast

from flwr.app import ConfigRecord, RecordDict

from caafp_app.errors import ProtocolError

PROTOCOL_VERSION = 1
HEADER = "caafp"
"""Name of the ConfigRecord that holds the header of this protocol."""

MAX_TEXT = 1000
MAX_BLOB = 1 << 24
MAX_LIST = 100_000
MAX_WHOLE = (1 << 63) - 1

_Kind = TypeVar("_Kind")
_Choice = TypeVar("_Choice", bound=StrEnum)


def is_ours(records: RecordDict) -> bool:
    """Tell whether a message speaks this protocol at all."""
    return isinstance(records.get(HEADER), ConfigRecord)


class Header:
    """The header of one message; each method reads one field and checks it.

    All raise ProtocolError if the field is missing and has no default, or is of another type or out
    of range; so does a message without a header, or of another version of the protocol.
    """

    def __init__(self, records: RecordDict) -> None:
        record = records.get(HEADER)
        if not isinstance(record, ConfigRecord):
            raise ProtocolError(
                f"the reply has no {HEADER!r} record: is sparse_mod among the mods of the whole "
                "ClientApp, ClientApp(mods=[sparse_mod])?"
            )
        self._record = record
        version = self.whole("version")
        if version != PROTOCOL_VERSION:
            raise ProtocolError(
                f"protocol version {version} found, this side speaks {PROTOCOL_VERSION}: "
                "install the same caafp_app on the server and on the clients"
            )

    def __contains__(self, key: str) -> bool:
        return key in self._record

    def text(self, key: str, default: str | None = None) -> str:
        """Read a short text."""
        value = self._get(key, str, default)
        if len(value) > MAX_TEXT:
            raise ProtocolError(
                f"header {key!r}: at most {MAX_TEXT} characters, found {len(value)}"
            )
        return value

    def whole(
        self, key: str, default: int | None = None, *, low: int = 0, high: int = MAX_WHOLE
    ) -> int:
        """Read a whole number from `low` to `high`."""
        value = self._get(key, int, default)
        if not low <= value <= high:
            raise ProtocolError(
                f"header {key!r}: expected a whole number from {low} to {high}, found {value}"
            )
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Read a finite number."""
        value = self._get(key, float, default)
        if not math.isfinite(value):
            raise ProtocolError(f"header {key!r}: expected a finite number, found {value}")
        return value

    def flag(self, key: str) -> bool:
        """Read a truth value."""
        return self._get(key, bool, None)

    def blob(self, key: str, default: bytes | None = None) -> bytes:
        """Read bytes."""
        value = self._get(key, bytes, default)
        if len(value) > MAX_BLOB:
            raise ProtocolError(f"header {key!r}: at most {MAX_BLOB} bytes, found {len(value)}")
        return value

    def choice(self, key: str, kind: type[_Choice]) -> _Choice:
        """Read one of the values of an enumeration."""
        return kind(self._one_of(key, self.text(key), list(kind)))

    def names(self, key: str, count: int, known: Collection[str]) -> list[str]:
        """Read a list of `count` texts, each one of `known`."""
        value = self._list(key, str)
        if len(value) != count:
            raise ProtocolError(f"header {key!r}: expected {count} texts, found {len(value)}")
        return [self._one_of(key, name, known) for name in value]

    def wholes(self, key: str) -> tuple[int, ...]:
        """Read a list of whole numbers >= 0; empty if it is missing."""
        value = self._list(key, int, [])
        if value and not 0 <= min(value) <= max(value) <= MAX_WHOLE:
            raise ProtocolError(f"header {key!r}: expected whole numbers from 0 to {MAX_WHOLE}")
        return tuple(value)

    def _get(self, key: str, kind: type[_Kind], default: _Kind | None) -> _Kind:
        value = self._record.get(key, default)
        if not _is(value, kind):
            found = "nothing" if value is None else type(value).__name__
            raise ProtocolError(f"header {key!r}: expected {kind.__name__}, found {found}")
        return cast(_Kind, value)

    def _list(self, key: str, kind: type[_Kind], default: list[_Kind] | None = None) -> list[_Kind]:
        value: list[_Kind] = self._get(key, list, default)
        if len(value) > MAX_LIST or not all(_is(item, kind) for item in value):
            raise ProtocolError(
                f"header {key!r}: expected a list of at most {MAX_LIST} {kind.__name__}"
            )
        return value

    def _one_of(self, key: str, value: str, known: Collection[str]) -> str:
        if value not in known:
            raise ProtocolError(
                f"header {key!r}: expected one of {', '.join(known)}; found {value!r}"
            )
        return value


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
