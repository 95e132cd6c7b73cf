"""A client's label is a key's, not whoever says it: signed descriptions.

A device signs its label together with the run and its node in that run. A signature copied from
another run, or sent by another node, does not fit: Flower's SuperLink chooses both numbers and
says which node a message came from. The keys are those of ``caafp keys device``.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from caafp_app.errors import ProtocolError, SettingsError
from caafp_app.safe_text import is_label

KEY_PATH = "key-path"
"""Entry of a node-config: the private key file that this device signs with."""

_KEY_BYTES = 1 << 14
_MAX_DEVICES = 100_000
_ECDSA = ec.ECDSA(hashes.SHA384())


@dataclass(frozen=True)
class Proof:
    """What a client adds to its description: a public key, ``<type> <base64>``, and a signature."""

    public_key: str = ""
    signature: str = ""


def prove(key_path: Path, run: int, node: int, label: str) -> Proof:
    """Sign that this node has this label in this run, with a key of ``caafp keys device``.

    `run` and `node` are those of the Context. Raises SettingsError if the file cannot be read, or
    is not such a key.
    """
    key = _private_key(key_path)
    signature = key.sign(_statement(run, node, label), _ECDSA)
    return Proof(_line(key.public_key()), base64.b64encode(signature).decode())


def holds(proof: Proof, run: int, node: int, label: str) -> bool:
    """Tell whether the proof's own key signed this. It says nothing about whose key that is."""
    try:
        key = _public_key(proof.public_key)
        signature = base64.b64decode(proof.signature, validate=True)
        key.verify(signature, _statement(run, node, label), _ECDSA)
    except (InvalidSignature, ProtocolError, binascii.Error, ValueError):
        return False
    return True


def read_known_devices(folder: Path) -> dict[str, str]:
    """Read the public keys of known devices, by label: the files ``<label>.pub`` of a folder.

    Raises SettingsError if the folder has none, or one of them is no key of a device.
    """
    known = {}
    for path in sorted(folder.glob("*.pub"))[: _MAX_DEVICES + 1]:
        label = path.name.removesuffix(".pub")
        try:
            text = path.read_bytes()[:_KEY_BYTES].decode()
            known[label] = _line(_public_key(" ".join(text.split()[:2])))
        except (OSError, UnicodeDecodeError, ProtocolError) as error:
            raise SettingsError(
                f"known-devices: expected {path} to be the public key of a device, found: {error}"
            ) from error
        if not is_label(label):
            raise SettingsError(f"known-devices: {path.name!r} is not named after a label")
    if not known or len(known) > _MAX_DEVICES:
        raise SettingsError(
            f"known-devices: expected 1 to {_MAX_DEVICES} files LABEL.pub in {folder}, "
            f"found {len(known) or 'none'}"
        )
    return known


@dataclass
class Identities:
    """Which key a label belongs to.

    Of the `known` devices (see `read_known_devices`), by label, no other label takes part. Without
    them the first key `seen` for a label is its key from then on, kept with the run's state; a
    label that came without a key has none.
    """

    known: Mapping[str, str] | None = None
    seen: dict[str, str] = field(default_factory=dict)

    def admit(self, label: str, proof: Proof, run: int, node: int) -> str:
        """Return why a node may not use a label, as a sentence; empty: it may.

        `label` and `proof` are as the node describes itself; `run` and `node` are those of the
        message that brought it, see ``message.metadata``: not as the node says.
        """
        if proof.public_key and not holds(proof, run, node, label):
            return f"{label!r} came with a signature that is not of this run and node: refused"
        shown = _line(_public_key(proof.public_key)) if proof.public_key else ""
        key = (self.seen if self.known is None else self.known).get(label)
        if key is None:
            if self.known is not None:
                return f"known-devices has no {label}.pub: refused"
            if shown:
                self.seen[label] = shown
            return ""
        if not shown:
            return (
                f"{label!r} belongs to a key, and this node did not sign: set {KEY_PATH} in its "
                "node-config"
            )
        if shown != key:
            return f"{label!r} belongs to another key: refused; give this device another label"
        return ""

    def state(self) -> dict[str, str]:
        """Return what was met, JSON-able."""
        return dict(sorted(self.seen.items()))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""
        self.seen = {str(label): str(key) for label, key in state.items()}


def _statement(run: int, node: int, label: str) -> bytes:
    """Return what is signed: plain, and unlike anything that other programs sign."""
    return b"caafp device label, version 1\n" + json.dumps([run, node, label]).encode()


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        with path.open("rb") as file:
            key = serialization.load_ssh_private_key(file.read(_KEY_BYTES), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(
            f"{KEY_PATH}: expected {path} to be a device's private key, found: {error}"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SettingsError(f"{KEY_PATH}: expected a key of `caafp keys device`, found another")
    return key


def _public_key(line: str) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ProtocolError(f"not a public key in OpenSSH's form: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ProtocolError("expected a public key of `caafp keys device`, found another kind")
    return key


def _line(key: ec.EllipticCurvePublicKey) -> str:
    form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_bytes(*form).decode()
