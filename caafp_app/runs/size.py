"""Bytes of a Flower message by kind, without hashing its arrays.

In a deployment a message travels as a tree of objects: Message, RecordDict, records, Arrays, and
chunks of at most 5 MB of array data. Each is sent as

    <class name> " " <children> " " <length of body> NUL <body>

where <children> are the IDs of its distinct children, 64 characters each, joined by commas. Equal
objects of one message are sent once. Flower makes every ID by SHA-256; the lengths follow from
the law above, so the sum here equals the real one at a small part of its cost.
"""

import json
from collections import Counter

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
from flwr.common.serde_utils import error_to_proto, metadata_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage

from caafp_app.errors import ProtocolError

HEADER = "caafp"
"""Name of the ConfigRecord that holds the header of our protocol."""
ARRAYS = "caafp.arrays"
RECORD = "record"
"""Name of the ArrayRecord that holds the arrays of our protocol."""

CHUNK_BYTES = FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
"""Bytes of array data in one object at most, as this process's Flower has it."""

_ID = "0" * 64
_MAX_KIND_LENGTH = 32


def message_bytes(message: Message) -> dict[str, int]:
    """Count what `message`, of any kind, takes on the wire; kinds of no bytes are left out.

    Kinds: the arrays of the ArrayRecord ``caafp.arrays`` by their name up to the first slash
    (``values``, ``rest``, ``other``, ``mask``, ``gradient-index`` ...); ``arrays`` of all other
    ArrayRecords; ``metrics``; ``header`` for the ConfigRecord ``caafp``, but for its values of type
    bytes, which count under their own key (``layout``) or, of arrays that travel in the header,
    under the array's name as above; ``config`` for other ConfigRecords; ``envelope`` for metadata,
    error texts and the heads of all objects.

    The sum is that of the lengths of ``deflate()`` over all distinct objects of the message. Raises
    ProtocolError if a record holds a value that Flower cannot serialise.
    """
    count = _Count()
    if message.has_content():
        count.add_records(message.content)
    count.add_message(message)
    return {kind: size for kind, size in count.kinds.items() if size}


class _Count:
    """Bytes by kind of the distinct objects of one message.

    Objects are told apart by content, as their hashes would, but without hashing: a chunk by
    comparison with those of equal length (which ends at the first byte that differs), and any
    other object by its own fields and the numbers of its children.
    """

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self._chunks: dict[int, list[tuple[memoryview, int]]] = {}
        self._numbers: dict[object, int] = {}
        self._next = 0

    def add_message(self, message: Message) -> None:
        """Add the Message itself: metadata, or the error, without its content."""
        metadata = metadata_to_proto(message.metadata)
        metadata.message_id = ""  # The SuperLink's to give: it is not sent.
        error = error_to_proto(message.error) if message.has_error() else None
        body = ProtoMessage(metadata=metadata, error=error).ByteSize()
        self._add_envelope(message, int(message.has_content()), body)

    def add_records(self, records: RecordDict) -> int:
        """Add a RecordDict and all below it; return its number."""
        header = records.get(HEADER)
        record = header.get(RECORD) if isinstance(header, ConfigRecord) else None
        ours = record if isinstance(record, str) else ARRAYS
        children = {
            name: self._add_record(name, record, ours=name == ours)
            for name, record in records.items()
        }
        return self._add_references(records, children)

    def _add_record(
        self, name: str, record: ArrayRecord | ConfigRecord | MetricRecord, *, ours: bool
    ) -> int:
        if isinstance(record, ArrayRecord):
            arrays = {
                key: self._add_array(array, _kind(key) if ours else "arrays")
                for key, array in record.items()
            }
            return self._add_references(record, arrays)
        try:
            content = record.deflate()
        except (TypeError, ValueError) as error:
            raise ProtocolError(
                f"record {name[:80]!r} cannot be serialised by Flower ({error}); "
                "keep its numbers within 64 bits and its text valid Unicode"
            ) from error
        number, new = self._number(content)
        if new:
            head = content.index(b"\0") + 1
            self.kinds["envelope"] += head
            body = len(content) - head
            if isinstance(record, MetricRecord):
                self.kinds["metrics"] += body
            elif name == HEADER:
                for key, value in record.items():
                    if isinstance(value, bytes):
                        # An array's key is @<dtype>:<shape>:<name>.
                        name = key.split(":", 2)[-1] if key.startswith("@") else key
                        self.kinds[_kind(name)] += len(value)
                        body -= len(value)
                self.kinds["header"] += body
            else:
                self.kinds["config"] += body
        return number

    def _add_array(self, array: Array, kind: str) -> int:
        view = memoryview(array.data)
        chunks = [
            self._add_chunk(view[start : start + CHUNK_BYTES], kind)
            for start in range(0, len(view), CHUNK_BYTES)
        ]
        number, new = self._number(("Array", array.dtype, array.shape, array.stype, *chunks))
        if new:
            places = {chunk: place for place, chunk in enumerate(dict.fromkeys(chunks))}
            metadata = {
                "dtype": array.dtype,
                "shape": array.shape,
                "stype": array.stype,
                "arraychunk_ids": [places[chunk] for chunk in chunks],
            }
            self._add_envelope(array, len(places), len(json.dumps(metadata)))
        return number

    def _add_chunk(self, data: memoryview, kind: str) -> int:
        same_length = self._chunks.setdefault(len(data), [])
        for other, number in same_length:
            if other == data:
                return number
        self._next += 1
        same_length.append((data, self._next))
        self.kinds["envelope"] += _head("ArrayChunk", 0, len(data))
        self.kinds[kind] += len(data)
        return self._next

    def _add_references(self, parent: ArrayRecord | RecordDict, children: dict[str, int]) -> int:
        """Add an object whose body is the JSON of its children's IDs by name."""
        number, new = self._number((type(parent).__qualname__, *children.items()))
        if new:
            body = len(json.dumps(dict.fromkeys(children, _ID)))
            self._add_envelope(parent, len(set(children.values())), body)
        return number

    def _add_envelope(self, parent: object, children: int, body: int) -> None:
        self.kinds["envelope"] += _head(type(parent).__qualname__, children, body) + body

    def _number(self, content: object) -> tuple[int, bool]:
        """Return the number of the object of this content, and whether it is a new one."""
        known = self._numbers.get(content)
        if known is not None:
            return known, False
        self._next += 1
        self._numbers[content] = self._next
        return self._next, True


def _head(class_name: str, children: int, body: int) -> int:
    """Return the length of an object's head: name, IDs, body's length, two blanks, one NUL."""
    ids = children * (len(_ID) + 1) - 1 if children else 0
    return len(class_name) + 1 + ids + 1 + len(str(body)) + 1


def _kind(name: str) -> str:
    # Names come from clients: a long one must not make the server's ledger grow.
    return name.removeprefix("update/").partition("/")[0][:_MAX_KIND_LENGTH]
