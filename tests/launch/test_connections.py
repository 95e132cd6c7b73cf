"""A connection that cannot work is told before a run is sent."""

import socket
from pathlib import Path

import pytest

from caafp_app.errors import SettingsError
from caafp_app.launch.connections import check_connection


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    for scheme in ("http", "https", "all"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)
    return tmp_path / "config.toml"


def test_one_whose_superlink_answers_is_taken(config: Path) -> None:
    (config.parent / "ca.pem").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        config.write_text(
            f'[superlink.mine]\naddress = "127.0.0.1:{port}"\nroot-certificates = "ca.pem"\n'
            f'[superlink.url]\naddress = "http://127.0.0.1:{port}/"\n'
            '[superlink.local]\naddress = ":local:"\n'
        )
        for name in ("mine", "url", "local"):
            check_connection(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected one of the connections in .* found mine; add"),
        ('[superlink]\ndefault = "a"\n[superlink.a]\n[superlink.b]\n', "expected one of a, b in "),
        ("[superlink.mine]\n", "expected an address in"),
        (
            '[superlink.mine]\naddress = "127.0.0.1:1"\n',
            "expected a SuperLink at 127.0.0.1:1, found",
        ),
        (
            '[superlink.mine]\naddress = "127.0.0.1:99999"\n',
            "expected a SuperLink at .*99999, found",
        ),
        (
            '[superlink.mine]\naddress = "127.0.0.1:1"\nroot-certificates = "/no/ca.pem"\n',
            "expected a file at root-certificates, found none at /no/ca.pem",
        ),
        ("[superlink", "expected Flower's configuration, found"),
    ],
)
def test_what_cannot_work_is_refused(config: Path, text: str | None, message: str) -> None:
    if text is not None:
        config.write_text(text)
    with pytest.raises(SettingsError, match=message):
        check_connection("mine")
