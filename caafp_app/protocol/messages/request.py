"""What the server asks of a client, and how it is built and read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.header import HEADER, PROTOCOL_VERSION, Header
from caafp_app.protocol.messages.vocabulary import RESERVED, Action
from caafp_app.protocol.payload import attach, attached
from caafp_app.registry import CODECS

_NOTHING = {"action": np.zeros(1, np.uint8)}
"""What stands in an ArrayRecord of the user's name where there is no model: mods look for one."""


@dataclass(frozen=True)
class Request:
    """One instruction to one client of cluster `cluster`; -1 before there are any.

    Attributes
    ----------
    mask_digest : str
        The mask that `values` are packed by; empty if no model travels.
    down, up, rest : str
        Names of the codecs of the weights in both directions, and of the rest.
    arrays : mapping of str to ndarray
        ``values`` (codec `down`, active weights), ``rest`` (codec `rest`), and ``other/<name>``.
    layout : bytes
        The layout as JSON; empty if the client holds it.
    mask : ndarray of uint8, or None
        The packed mask bits, None if the client holds it; with `mask_base` the gap-coded positions
        at which the mask differs from the one of that digest.
    trials : ndarray of uint8, or None
        See `packing.pack_trials`: the model is evaluated once for each, cut as it says.
    model : str
        Digest of `arrays`, which the client keeps under it; without arrays: it takes those that it
        keeps. An app is often asked to train just what it has evaluated.
    gradient_counts : tuple of int
        How many gradients at inactive positions are wanted of each layer; empty: none.
    evaluate : bool
        Report the accuracy of the received model in the same reply.
    arrays_key : str
        Name of the ArrayRecord in which the inner app expects the model.
    config_key : str
        Name of a ConfigRecord that the mod makes, with ``server-round`` alone, as FedAvg sends it;
        empty: the user's own config travels. A record less is a request of HTTP less.
    record : str
        Name of the ArrayRecord that the arrays travel in; empty: the shortest way, see `payload`.
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
    trials: NDArray[np.uint8] | None = None
    model: str = ""
    gradient_counts: tuple[int, ...] = ()
    evaluate: bool = False
    arrays_key: str = "arrays"
    config_key: str = ""
    record: str = ""

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
        arrays = dict(self.arrays)
        if self.mask_digest:
            header["cluster"] = self.cluster
            header["mask-digest"] = self.mask_digest
            header["codecs"] = [self.down, self.up, self.rest]
            header["evaluate"] = self.evaluate
            optional: dict[str, list[int] | bytes | str] = {
                "gradient-counts": list(self.gradient_counts),
                "layout": self.layout,
                "mask-base": self.mask_base,
                "model": self.model,
                "arrays-key": "" if self.arrays_key == "arrays" else self.arrays_key,
                "config-key": self.config_key,
            }
            for key, value in optional.items():
                if value:
                    header[key] = value
            for name, array in (("mask", self.mask), ("trials", self.trials)):
                if array is not None:
                    arrays[name] = array
        attach(records, arrays or (_NOTHING if self.record else {}), self.record)
        return records

    @classmethod
    def from_records(cls, records: RecordDict) -> "Request":
        """Read and check a request.

        Raises ProtocolError if a field is missing, of the wrong type, or the version is another.
        """
        header = Header(records)
        action = header.choice("action", Action)
        round_, seed, phase = header.whole("round"), header.whole("seed"), header.text("phase")
        if "mask-digest" not in header:
            if action is not Action.DESCRIBE:
                raise ProtocolError(f"header 'mask-digest': missing, and {action} needs a model")
            return cls(action, round_, seed, phase, record=header.text("record", ""))
        arrays_key = header.text("arrays-key", "arrays")
        if arrays_key in RESERVED:
            raise ProtocolError(f"header 'arrays-key': {arrays_key!r} is a name of the protocol")
        codecs = header.names("codecs", 3, CODECS)
        arrays = attached(records)
        arrays.pop("action", None)
        mask, trials = arrays.pop("mask", None), arrays.pop("trials", None)
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
            trials=trials,
            model=header.text("model", ""),
            gradient_counts=header.wholes("gradient-counts"),
            evaluate=header.flag("evaluate"),
            arrays_key=arrays_key,
            config_key=header.text("config-key", ""),
            record=header.text("record", ""),
        )
