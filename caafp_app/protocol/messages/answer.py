"""What a client answers, and how it is built and read."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.description import Description
from caafp_app.protocol.entry import MAX_ELEMENTS
from caafp_app.protocol.header import HEADER, PROTOCOL_VERSION, Header
from caafp_app.protocol.identity import Proof
from caafp_app.protocol.messages.vocabulary import Action
from caafp_app.protocol.payload import attach, attached
from caafp_app.safe_text import LABEL_FORM, is_label, sentence

MAX_EXAMPLES = 10**9
"""No client has more than this; a larger count is an attempt to own the mean."""


@dataclass(frozen=True)
class Answer(Description):
    """What a client sends back, besides its own metrics.

    All of the description but the label is told by *describe* alone; so is `proof` that the label
    is its own, empty if it has no key. Action and round are the request's, so that a stale or
    misdirected answer is recognised.

    Attributes
    ----------
    mask_digest : str
        The mask that the client holds now.
    arrays : mapping of str to ndarray
        ``values`` and ``rest`` as updates (trained minus received), ``other/<name>`` as they are,
        ``gradient-index`` and ``gradient-value``.
    gradient_scale : float
        Magnitude of the largest gradient sent.
    outside : int
        Nonzero weights found outside the mask after training, before the mask was put back; -1 if
        not looked at.
    record : str
        Name of the ArrayRecord that the arrays travel in; empty: the shortest way, see `payload`.
    """

    _: KW_ONLY
    action: Action
    round: int
    mask_digest: str = ""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    gradient_scale: float = 0.0
    proof: Proof = field(default_factory=Proof)
    outside: int = -1
    record: str = ""

    def to_records(self) -> RecordDict:
        """Build the records."""
        header = ConfigRecord(
            {
                "version": PROTOCOL_VERSION,
                "action": self.action.value,
                "round": self.round,
                "label": self.label,
            }
        )
        # No empty text: Flower's message_size_mod takes none.
        if self.mask_digest:
            header["mask-digest"] = self.mask_digest
        records = RecordDict({HEADER: header})
        if self.action is Action.DESCRIBE:
            header["examples"] = self.examples
            header["population"] = self.population
            if self.strength != 1.0:
                header["strength"] = self.strength
            if self.idle:
                header["idle"] = self.idle
            if self.proof.public_key:
                header["public-key"] = self.proof.public_key
                header["signature"] = self.proof.signature
        if self.outside >= 0:
            header["outside"] = self.outside
        if "gradient-value" in self.arrays:
            header["gradient-scale"] = self.gradient_scale
        attach(records, self.arrays, self.record, update=True)
        return records

    @classmethod
    def from_records(cls, records: RecordDict) -> "Answer":
        """Read and check an answer.

        Raises ProtocolError if a field is missing, of the wrong type, the version is another, or
        the label is none.
        """
        header = Header(records)
        label = header.text("label")
        if not is_label(label):
            raise ProtocolError(f"expected a label of {LABEL_FORM}, found {label!a:.120}")
        return cls(
            action=header.choice("action", Action),
            round=header.whole("round"),
            label=label,
            mask_digest=header.text("mask-digest", ""),
            arrays=attached(records),
            gradient_scale=header.number("gradient-scale", 0.0),
            examples=header.whole("examples", -1, low=-1, high=MAX_EXAMPLES),
            population=header.whole("population", -1, low=-1, high=MAX_EXAMPLES),
            strength=_strength(header.number("strength", 1.0)),
            idle=sentence(header.text("idle", "")),
            proof=Proof(header.text("public-key", ""), header.text("signature", "")),
            outside=header.whole("outside", -1, low=-1, high=MAX_ELEMENTS),
            record=header.text("record", ""),
        )


def _strength(value: float) -> float:
    if not 0.0 < value <= 1.0:
        raise ProtocolError(f"strength: expected a share above 0 and at most 1, found {value}")
    return value
