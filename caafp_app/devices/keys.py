"""An authority of one's own, the server's certificate, and a key pair for each device.

TLS (X.509, PEM) tells a device that it talks to the right server. Flower's node authentication
tells the server who a device is: a key in OpenSSH's form, registered by ``flwr supernode
register``.
"""

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from caafp_app.errors import SettingsError

AUTHORITY_DAYS = 3650
SERVER_DAYS = 825
"""The longest life of a server's certificate that Apple's systems accept as well."""

_AUTHORITY = "caafp authority"
_LOOPBACK = ("localhost", "127.0.0.1")
"""The SuperLink's own helpers, and a proxy beside it, reach it by these."""

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OPENSSH = serialization.PrivateFormat.OpenSSH
_PKCS8 = serialization.PrivateFormat.PKCS8
_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
# A clock of a device without a battery may be a little behind.
_BACKDATED = timedelta(hours=1)


def make_server_keys(
    folder: Path,
    names: Sequence[str],
    *,
    days: int = SERVER_DAYS,
    now: datetime | None = None,
) -> list[Path]:
    """Issue the server's certificate, by an authority that is made where there is none.

    `folder` gets ``ca.pem`` and ``ca.key`` (unless they are there), ``server.pem`` and
    ``server.key``. `names` are the hosts and IP addresses by which devices reach the server;
    ``localhost`` and ``127.0.0.1`` are added. The certificate lives for `days` from `now`. Returns
    the files written. Raises SettingsError if a name is neither host nor address, or a file is
    there already.
    """
    wanted = list(dict.fromkeys((*names, *_LOOPBACK)))
    subject = [_alternative(name) for name in wanted]
    begin = now or datetime.now(UTC)
    files: dict[Path, bytes] = {}
    if (folder / "ca.pem").exists() or (folder / "ca.key").exists():
        authority, signer = _read_authority(folder)
    else:
        authority, signer = _new_authority(begin)
        files[folder / "ca.pem"] = authority.public_bytes(serialization.Encoding.PEM)
        files[folder / "ca.key"] = _private(signer, _PKCS8)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _certificate(wanted[0], key.public_key(), authority.subject, begin, days)
        .add_extension(x509.SubjectAlternativeName(subject), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    files[folder / "server.pem"] = certificate.public_bytes(serialization.Encoding.PEM)
    files[folder / "server.key"] = _private(key, _PKCS8)
    return _write(files)


def make_device_keys(folder: Path, name: str) -> list[Path]:
    """Make the key pair of one device: ``<name>.key``, which stays there, and ``<name>.pub``.

    Raises SettingsError if the name is none, a file is there already, or it cannot be written.
    """
    if not _DEVICE.fullmatch(name):
        raise SettingsError(
            "name of a device: expected at most 64 letters, digits and . _ - that begin with a "
            f"letter or digit, found {name!r}"
        )
    # P-384 is what Flower itself generates; it takes any curve of NIST and no other.
    key = ec.generate_private_key(ec.SECP384R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return _write(
        {
            folder / f"{name}.key": _private(key, _OPENSSH),
            folder / f"{name}.pub": public + f" {name}\n".encode(),
        }
    )


def _new_authority(begin: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _AUTHORITY)])
    certificate = (
        _certificate(_AUTHORITY, key.public_key(), name, begin, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .sign(key, hashes.SHA384())
    )
    return certificate, key


def _read_authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(
            f"{folder}: expected an authority's ca.pem and ca.key, or neither of them, found one "
            f"that cannot be read: {error}"
        ) from error
    if (
        not isinstance(key, ec.EllipticCurvePrivateKey)
        or certificate.public_key() != key.public_key()
    ):
        raise SettingsError(f"{folder}: expected ca.key to be the key of ca.pem, found another")
    return certificate, key


def _certificate(
    name: str, key: ec.EllipticCurvePublicKey, issuer: x509.Name, begin: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _BACKDATED)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*wanted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in wanted for name in _USES})


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if len(name) <= 253 and _HOST.fullmatch(name):
            return x509.DNSName(name)
    raise SettingsError(
        "name of the server: expected a host name (server.example.org) or an IP address, without "
        f"port and without https://, found {name!r}"
    )


def _private(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(files: Mapping[Path, bytes]) -> list[Path]:
    """Write files that nobody else may read; none of them if one is there already."""
    there = [str(path) for path in files if path.exists()]
    if there:
        raise SettingsError(
            f"expected none of the files yet, found {', '.join(there)}; keys are never overwritten:"
            " move them away first"
        )
    try:
        for path, content in files.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made with its mode: at no moment may others read it.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                file.write(content)
    except OSError as error:
        raise SettingsError(f"expected to write {path}, found: {error.strerror}") from error
    return list(files)
