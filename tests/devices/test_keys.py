import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from flwr.supercore.primitives.asymmetric import uses_nist_ec_curve
from typer.testing import CliRunner

from caafp_app import cli
from caafp_app.devices.keys import SERVER_DAYS, make_device_keys, make_server_keys
from caafp_app.errors import SettingsError


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def handshake(folder: Path, root: Path, name: str) -> None:
    """Shake hands in memory, as a device that calls the server by a name."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    client = ssl.create_default_context(cafile=str(root))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname=name),
        server.wrap_bio(up, down, server_side=True),
    ]
    done = [False, False]
    for _ in range(10):
        for place, end in enumerate(ends):
            try:
                end.do_handshake()
                done[place] = True
            except ssl.SSLWantReadError:
                pass
    assert done == [True, True]


def test_a_device_accepts_the_server_by_each_of_its_names(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "keys"
    names = ["server.example.org", "192.0.2.7"]
    written = make_server_keys(folder, names)
    assert {path.name for path in written} == {"ca.pem", "ca.key", "server.pem", "server.key"}
    for name in [*names, "localhost", "127.0.0.1"]:
        handshake(folder, folder / "ca.pem", name)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"doesn't match|not valid for"):
        handshake(folder, folder / "ca.pem", "other.example.org")
    make_server_keys(tmp_path / "stranger", names)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unable to get|signature"):
        handshake(tmp_path / "stranger", folder / "ca.pem", names[0])


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    begin = datetime.now(UTC) - timedelta(days=31)
    make_server_keys(tmp_path, ["a"], days=30, now=begin)
    found = certificate(tmp_path / "server.pem")
    life = found.not_valid_after_utc - begin
    assert abs(life - timedelta(days=30)) < timedelta(seconds=1)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(tmp_path, tmp_path / "ca.pem", "localhost")


def test_renewal_keeps_the_authority(tmp_path: Path) -> None:
    make_server_keys(tmp_path, ["a"])
    before = certificate(tmp_path / "server.pem").serial_number
    authority = (tmp_path / "ca.pem").read_bytes()
    for name in ("server.pem", "server.key"):
        (tmp_path / name).rename(tmp_path / f"old-{name}")
    assert len(make_server_keys(tmp_path, ["a"])) == 2
    assert (tmp_path / "ca.pem").read_bytes() == authority
    assert certificate(tmp_path / "server.pem").serial_number != before
    handshake(tmp_path, tmp_path / "ca.pem", "a")


def test_a_device_key_is_one_that_flower_takes(tmp_path: Path) -> None:
    private, public = make_device_keys(tmp_path, "pi-1")
    assert (private.name, public.name) == ("pi-1.key", "pi-1.pub")
    key = load_ssh_private_key(private.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    told = load_ssh_public_key(public.read_bytes())
    assert isinstance(told, ec.EllipticCurvePublicKey)
    assert uses_nist_ec_curve(told)
    assert told == key.public_key()


def test_nobody_else_may_read_them_and_none_is_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    files = [*make_server_keys(folder, ["a"]), *make_device_keys(folder, "pi-1")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = {path: path.read_bytes() for path in files}
    with pytest.raises(SettingsError, match=r"found .*server\.pem.*never overwritten"):
        make_server_keys(folder, ["a"])
    (folder / "pi-1.key").unlink()
    with pytest.raises(SettingsError, match=r"found .*pi-1\.pub.*never overwritten"):
        make_device_keys(folder, "pi-1")
    assert not (folder / "pi-1.key").exists()
    assert all(path.read_bytes() == before[path] for path in files if path.exists())


@pytest.mark.parametrize(
    "name", ["https://a.org", "a.org:8000", "", "-a", "a..b", "a b", "*.a.org"]
)
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="expected a host name"):
        make_server_keys(tmp_path, [name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../pi", "a/b", ".hidden", "a b", "x" * 65])
def test_a_device_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="name of a device"):
        make_device_keys(tmp_path, name)


def test_half_an_authority_is_refused(tmp_path: Path) -> None:
    make_server_keys(tmp_path / "a", ["a"])
    make_server_keys(tmp_path / "b", ["a"])
    for folder in ("a", "b"):
        for name in ("server.pem", "server.key"):
            (tmp_path / folder / name).unlink()
    (tmp_path / "a" / "ca.key").replace(tmp_path / "b" / "ca.key")
    with pytest.raises(SettingsError, match=r"expected ca\.key to be the key of ca\.pem"):
        make_server_keys(tmp_path / "b", ["a"])
    with pytest.raises(SettingsError, match=r"or neither of them"):
        make_server_keys(tmp_path / "a", ["a"])


def test_the_command_tells_what_it_wrote(tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(cli.app, ["keys", "server", str(tmp_path), "--name", "a.org"])
    assert done.exit_code == 0, done.output
    assert done.output.count("wrote ") == 4
    again = runner.invoke(cli.app, ["keys", "server", str(tmp_path), "--name", "a.org"])
    assert again.exit_code == 2
    assert "never overwritten" in again.output
    found = certificate(tmp_path / "server.pem")
    days = (found.not_valid_after_utc - datetime.now(UTC)).days
    assert days in (SERVER_DAYS, SERVER_DAYS - 1)
