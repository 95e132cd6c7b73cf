"""How much a reply may carry besides its arrays: checked before anything looks at it.

What a user's app returns is the user's own, but no app needs a hundred thousand metrics, and the
server keeps what it takes until the next exchange. A reply beyond the budget is refused.
"""

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from caafp_app.errors import ProtocolError
from caafp_app.protocol.header import HEADER

MAX_RECORDS = 64
MAX_NAMES = 1_000
"""Metrics, and entries of configs, of all records together."""
MAX_NAME = 200
"""Characters of one name."""
MAX_BYTES = 1 << 20
"""Bytes of all metrics and configs together; a number counts as 8."""

MOST_CLASSES = 200
"""Of so many classes, counts of two models (each class taken for each) are within `MAX_BYTES`."""

_HEADER_FIELDS = 25_000
"""The header holds arrays too, one field each: a layout has at most 20 000 of them."""


def check_budget(records: RecordDict) -> None:
    """Refuse, by ProtocolError, a reply that carries more than any app needs.

    Arrays are not counted: their sizes are compared with the model's where they are read.
    """
    if len(records) > MAX_RECORDS:
        raise ProtocolError(f"expected at most {MAX_RECORDS} records, found {len(records)}")
    names = total = 0
    for key, record in records.items():
        if key == HEADER:
            if len(record) > _HEADER_FIELDS:
                raise ProtocolError(
                    f"expected a header of at most {_HEADER_FIELDS} fields, found {len(record)}"
                )
            continue
        if isinstance(record, ArrayRecord):
            continue
        names += len(record)
        if names > MAX_NAMES:
            raise ProtocolError(f"expected at most {MAX_NAMES} metrics, found {names} or more")
        total += _bytes(record)
        if total > MAX_BYTES:
            raise ProtocolError(
                f"expected at most {MAX_BYTES} bytes of metrics and configs, found {total} or more"
            )


def _bytes(record: MetricRecord | ConfigRecord) -> int:
    size = 0
    for name, value in record.items():
        if len(name) > MAX_NAME:
            raise ProtocolError(
                f"expected names of at most {MAX_NAME} characters, found {len(name)}"
            )
        parts = value if isinstance(value, list) else [value]
        if parts and isinstance(parts[0], str | bytes):  # a list is of one type
            size += sum(len(part) for part in parts if isinstance(part, str | bytes))
        else:
            size += 8 * len(parts)
    return size
