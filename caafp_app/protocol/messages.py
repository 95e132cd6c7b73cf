"""The two kinds of message: what the server asks (`Request`) and what a client answers (`Answer`).

A message is an ordinary Flower train or evaluate message. What is ours travels in the ConfigRecord
``caafp`` (header) with the arrays in it or, if they are large, in the ArrayRecord ``caafp.arrays``
(see `payload`); every other record belongs to the user and passes untouched. Every field is
validated where it is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.arrays import ARRAYS, from_record, to_record
from caafp_app.protocol.codec import CODECS
from caafp_app.protocol.header import HEADER, PROTOCOL_VERSION, Header, is_ours
from caafp_app.protocol.payload import attach, attached

# With what reads and writes a message's records, so that callers import them from one place.
__all__ = [
    "ARRAYS",
    "GRADIENT",
    "HEADER",
    "MAX_EXAMPLES",
    "PROTOCOL_VERSION",
    "RESERVED",
    "Action",
    "Answer",
    "ErrorCode",
    "Request",
    "from_record",
    "is_ours",
    "to_record",
]

GRADIENT = "caafp.gradient"
"""Name of the ArrayRecord in which an inner app hands its gradient to the mod; never sent."""

RESERVED = (HEADER, ARRAYS, GRADIENT)
"""Names of records that a user's own must not have."""

MAX_EXAMPLES = 10**9
"""No client has more than this; a larger count is an attempt to own the mean."""


class Action(StrEnum):
    """What the server asks of a client."""

    DESCRIBE = "describe"
    SALIENCY = "saliency"
    TRAIN = "train"
    EVALUATE = "evaluate"
    PERSONALISE = "personalise"
    EVALUATE_PERSONAL = "evaluate-personal"


TRAINING = (Action.SALIENCY, Action.TRAIN, Action.PERSONALISE)
"""Actions that travel as Flower's train messages and return a trained model."""


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
    config_key : str
        Name of a ConfigRecord that the mod makes, with ``server-round`` alone, as FedAvg sends it;
        empty: the user's own config travels. A record less is a request of HTTP less.
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
    config_key: str = ""

    def to_records(self) -> RecordDict:
        """Build the records."""
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
            if self.config_key:
                header["config-key"] = self.config_key
            arrays = dict(self.arrays)
            if self.mask is not None:
                arrays["mask"] = self.mask
            attach(records, arrays)
        return records

    @classmethod
    def from_records(cls, records: RecordDict) -> "Request":
        """Read and check a request.

        Raises
        ------
        ProtocolError
            If a field is missing, of the wrong type, or the version is another.
        """
        header = Header(records)
        action = header.choice("action", Action)
        round_, seed, phase = header.whole("round"), header.whole("seed"), header.text("phase")
        if "mask-digest" not in header:
            if action is not Action.DESCRIBE:
                raise ProtocolError(f"header 'mask-digest': missing, and {action} needs a model")
            return cls(action, round_, seed, phase)
        arrays_key = header.text("arrays-key", "arrays")
        if arrays_key in RESERVED:
            raise ProtocolError(f"header 'arrays-key': {arrays_key!r} is a name of the protocol")
        codecs = header.names("codecs", 3, CODECS)
        arrays = attached(records)
        mask = arrays.pop("mask", None)
        return cls(
            action,
            round_,
            seed,
            phase,
            cluster=header.whole("cluster", low=-1),
            mask_digest=header.text("mask-digest"),
            down=codecs[0],
            up=codecs[1],
            rest=codecs[2],
            arrays=arrays,
            layout=header.blob("layout", b""),
            mask=mask,
            mask_base=header.text("mask-base", ""),
            gradient_counts=header.wholes("gradient-counts"),
            evaluate=header.flag("evaluate"),
            arrays_key=arrays_key,
            config_key=header.text("config-key", ""),
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
        Training examples and natural number of clients, as told by *describe*; -1 if unknown, at
        most `MAX_EXAMPLES`.
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
        attach(records, self.arrays)
        return records

    @classmethod
    def from_records(cls, records: RecordDict) -> "Answer":
        """Read and check an answer.

        Raises
        ------
        ProtocolError
            If a field is missing, of the wrong type, or the version is another.
        """
        header = Header(records)
        return cls(
            action=header.choice("action", Action),
            round=header.whole("round"),
            label=header.text("label"),
            mask_digest=header.text("mask-digest"),
            arrays=attached(records),
            gradient_scale=header.number("gradient-scale", 0.0),
            examples=header.whole("examples", -1, low=-1, high=MAX_EXAMPLES),
            population=header.whole("population", -1, low=-1, high=MAX_EXAMPLES),
            idle=header.text("idle", ""),
            outside=header.whole("outside", -1, low=-1),
        )
