"""The two kinds of message: what the server asks (`Request`) and what a client answers (`Answer`).

A message is an ordinary Flower train or evaluate message. What is ours travels in two records of
it, the ConfigRecord ``caafp`` (header) and the ArrayRecord ``caafp.arrays``; every other record
belongs to the user and passes untouched. Every field is validated where it is read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from io import BytesIO
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.lib import format as npy
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError

PROTOCOL_VERSION = 1
HEADER = "caafp"
ARRAYS = "caafp.arrays"
GRADIENT = "caafp.gradient"
"""Name of the ArrayRecord in which an inner app hands its gradient to the mod; never sent."""


class Action(StrEnum):
    """What the server asks of a client."""

    DESCRIBE = "describe"
    TRAIN = "train"
    EVALUATE = "evaluate"
    PERSONALISE = "personalise"
    EVALUATE_PERSONAL = "evaluate-personal"


class ErrorCode(IntEnum):
    """Codes of error replies that this protocol adds to Flower's."""

    MASK_UNKNOWN = 470
    """The client does not hold the mask the request names; send it in full."""
    BAD_REQUEST = 471
    """The request could not be read."""
    CLIENT_FAILED = 472
    """The client's own code raised."""
    NOT_PERSONALISED = 473
    """An evaluation of a personal model that this client does not have."""


@dataclass(frozen=True)
class Request:
    """One instruction to one client.

    Attributes
    ----------
    action, round, seed, phase
        What to do, the server's round from 1, the run's seed, the phase's name.
    cluster : int
        The client's cluster; -1 before there are any.
    mask_digest : str
        The mask that `values` are packed by; empty if no model travels.
    down, up, rest : str
        Names of the codecs of the weights in both directions, and of the rest.
    arrays : mapping of str to ndarray
        ``values`` (codec `down`, active weights), ``rest`` (codec `rest`), and ``other/<name>``.
    layout : bytes
        The layout as JSON, if the client may not hold it; else empty.
    mask : ndarray of uint8, or None
        Packed mask bits, if the client may not hold them; or, with `mask_base`, the gap-coded
        positions at which the mask differs from the one of that digest, which the client holds.
    mask_base : str
        See `mask`.
    gradient_counts : tuple of int
        How many gradients at inactive positions are wanted of each layer; empty: none.
    evaluate : bool
        Report the accuracy of the received model in the same reply.
    arrays_key : str
        Name of the ArrayRecord in which the inner app expects the model.
    """

    action: Action
    round: int = 0
    seed: int = 0
    phase: str = ""
    cluster: int = -1
    mask_digest: str = ""
    down: str = "float32"
    up: str = "float32"
    rest: str = "float32"
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    layout: bytes = b""
    mask: NDArray[np.uint8] | None = None
    mask_base: str = ""
    gradient_counts: tuple[int, ...] = ()
    evaluate: bool = False
    arrays_key: str = "arrays"

    def to_records(self) -> RecordDict:
        """Build the two records."""
        header = ConfigRecord(
            {
                "version": PROTOCOL_VERSION,
                "action": self.action.value,
                "round": self.round,
                "seed": self.seed,
                "phase": self.phase,
            }
        )
        records = RecordDict({HEADER: header})
        if self.mask_digest:
            header["cluster"] = self.cluster
            header["mask-digest"] = self.mask_digest
            header["codecs"] = [self.down, self.up, self.rest]
            header["evaluate"] = self.evaluate
            if self.gradient_counts:
                header["gradient-counts"] = list(self.gradient_counts)
            if self.layout:
                header["layout"] = self.layout
            if self.mask_base:
                header["mask-base"] = self.mask_base
            if self.arrays_key != "arrays":
                header["arrays-key"] = self.arrays_key
            arrays = dict(self.arrays)
            if self.mask is not None:
                arrays["mask"] = self.mask
            records[ARRAYS] = to_record(arrays)
        return records

    @classmethod
    def from_records(cls, records: RecordDict) -> "Request":
        """Read and check a request.

        Raises
        ------
        ProtocolError
            If a field is missing, of the wrong type, or the version is another.
        """
        header = _Header(records)
        action = header.choice("action", Action)
        common = {
            "action": action,
            "round": header.whole("round"),
            "seed": header.whole("seed"),
            "phase": header.text("phase"),
        }
        if action is Action.DESCRIBE or "mask-digest" not in header.record:
            return cls(**common)  # type: ignore[arg-type]
        codecs = header.texts("codecs", 3)
        arrays = from_record(records)
        mask = arrays.pop("mask", None)
        return cls(
            **common,  # type: ignore[arg-type]
            cluster=header.whole("cluster", low=-1),
            mask_digest=header.text("mask-digest"),
            down=codecs[0],
            up=codecs[1],
            rest=codecs[2],
            arrays=arrays,
            layout=header.blob("layout"),
            mask=mask,
            mask_base=header.text("mask-base", ""),
            gradient_counts=header.wholes("gradient-counts"),
            evaluate=header.flag("evaluate"),
            arrays_key=header.text("arrays-key", "arrays"),
        )


@dataclass(frozen=True)
class Answer:
    """What a client sends back, besides its own metrics.

    Attributes
    ----------
    action, round
        Repeated from the request, so that a stale or misdirected answer is recognised.
    label : str
        The client's stable name.
    mask_digest : str
        The mask that the client holds now.
    arrays : mapping of str to ndarray
        ``values`` and ``rest`` as updates (trained minus received), ``other/<name>`` as they are,
        ``gradient-index`` and ``gradient-value``.
    gradient_scale : float
        Magnitude of the largest gradient sent.
    examples, population : int
        Training examples and natural number of clients, as told by *describe*; -1 if unknown.
    idle : str
        Why this client takes no part; empty if it does.
    outside : int
        Nonzero weights found outside the mask after training, before the mask was put back;
        -1 if not looked at.
    """

    action: Action
    round: int
    label: str
    mask_digest: str = ""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    gradient_scale: float = 0.0
    examples: int = -1
    population: int = -1
    idle: str = ""
    outside: int = -1

    def to_records(self) -> RecordDict:
        """Build the records."""
        header = ConfigRecord(
            {
                "version": PROTOCOL_VERSION,
                "action": self.action.value,
                "round": self.round,
                "label": self.label,
                "mask-digest": self.mask_digest,
            }
        )
        records = RecordDict({HEADER: header})
        if self.action is Action.DESCRIBE:
            header["examples"] = self.examples
            header["population"] = self.population
            header["idle"] = self.idle
        if self.outside >= 0:
            header["outside"] = self.outside
        if "gradient-value" in self.arrays:
            header["gradient-scale"] = self.gradient_scale
        if self.arrays:
            records[ARRAYS] = to_record(self.arrays)
        return records

    @classmethod
    def from_records(cls, records: RecordDict) -> "Answer":
        """Read and check an answer.

        Raises
        ------
        ProtocolError
            If a field is missing, of the wrong type, or the version is another.
        """
        header = _Header(records)
        scale = header.number("gradient-scale", 0.0)
        return cls(
            action=header.choice("action", Action),
            round=header.whole("round"),
            label=header.text("label"),
            mask_digest=header.text("mask-digest"),
            arrays=from_record(records),
            gradient_scale=scale,
            examples=header.whole("examples", low=-1, default=-1),
            population=header.whole("population", low=-1, default=-1),
            idle=header.text("idle", ""),
            outside=header.whole("outside", low=-1, default=-1),
        )


def is_ours(records: RecordDict) -> bool:
    """Tell whether a message speaks this protocol at all."""
    return HEADER in records.config_records


def to_record(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Wrap arrays for sending."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def from_record(records: RecordDict, name: str = ARRAYS) -> dict[str, NDArray[Any]]:
    """Unwrap received arrays: npy format, never pickled, no longer than their bytes say."""
    if name not in records.array_records:
        return {}
    return {key: read_array(key, array) for key, array in records.array_records[name].items()}


def read_array(name: str, array: Array) -> NDArray[Any]:
    """View one received array without copying it; the view is read-only.

    The npy header is compared with the stated dtype and shape and with the bytes at hand before
    anything is made of it, so that a lying header cannot take memory.

    Raises
    ------
    ProtocolError
        If its bytes are not a plain npy array, or not of the stated dtype and shape.
    """
    buffer = BytesIO(array.data)
    try:
        if npy.read_magic(buffer) != (1, 0):
            raise ValueError("version 1.0 expected")
        shape, fortran, dtype = npy.read_array_header_1_0(buffer)
    except (ValueError, TypeError, EOFError, SyntaxError, OverflowError) as error:
        raise ProtocolError(f"array {name!r}: not a plain npy array: {error}") from error
    if dtype.hasobject or dtype.kind not in "biufc":
        raise ProtocolError(f"array {name!r}: dtype {dtype} is not a plain number")
    if dtype.name != array.dtype or shape != tuple(array.shape):
        raise ProtocolError(f"array {name!r}: bytes and stated dtype or shape differ")
    start = buffer.tell()
    if math.prod(shape) * dtype.itemsize != len(array.data) - start:
        raise ProtocolError(f"array {name!r}: {dtype} {list(shape)} does not fit its bytes")
    flat = np.frombuffer(array.data, dtype=dtype, offset=start, count=math.prod(shape))
    return flat.reshape(shape, order="F" if fortran else "C")


class _Header:
    """Typed access to the header of a message of unknown origin."""

    def __init__(self, records: RecordDict) -> None:
        if not is_ours(records):
            raise ProtocolError(
                f"the message has no {HEADER!r} record: add mods=[sparse_mod] to the ClientApp"
            )
        self.record = records.config_records[HEADER]
        version = self.whole("version")
        if version != PROTOCOL_VERSION:
            raise ProtocolError(
                f"protocol version {version} found, this side speaks {PROTOCOL_VERSION}: "
                "install the same caafp_app on the server and on the clients"
            )

    def get(self, key: str, kind: type, default: object) -> Any:
        value = self.record.get(key, default)
        if value is None or not isinstance(value, kind) or (kind is int and value is True):
            raise ProtocolError(f"header {key!r}: expected {kind.__name__}, found {value!r:.60}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value: str = self.get(key, str, default)
        if len(value) > 1000:
            raise ProtocolError(f"header {key!r}: at most 1000 characters, found {len(value)}")
        return value

    def whole(self, key: str, *, low: int = 0, default: int | None = None) -> int:
        value = self.get(key, int, default)
        if isinstance(value, bool) or value < low:
            raise ProtocolError(f"header {key!r}: expected a whole number >= {low}, found {value}")
        return int(value)

    def number(self, key: str, default: float) -> float:
        value: float = self.get(key, float, default)
        if not math.isfinite(value):
            raise ProtocolError(f"header {key!r}: expected a finite number, found {value}")
        return value

    def flag(self, key: str) -> bool:
        return bool(self.get(key, bool, False))

    def blob(self, key: str) -> bytes:
        return bytes(self.get(key, bytes, b""))

    def choice(self, key: str, kind: type[Action]) -> Action:
        value = self.text(key)
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(kind)
            raise ProtocolError(
                f"header {key!r}: expected one of {known}; found {value!r}"
            ) from None

    def texts(self, key: str, count: int) -> list[str]:
        value = self.get(key, list, None)
        if len(value) != count or not all(isinstance(item, str) for item in value):
            raise ProtocolError(f"header {key!r}: expected {count} texts")
        return list(value)

    def wholes(self, key: str) -> tuple[int, ...]:
        value = self.get(key, list, [])
        if not all(type(item) is int and item >= 0 for item in value):
            raise ProtocolError(f"header {key!r}: expected whole numbers >= 0")
        return tuple(value)
