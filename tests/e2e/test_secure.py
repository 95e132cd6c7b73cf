"""TLS and node authentication, by the commands of the guide: who is let in, and who is not.

A SuperLink as in docs/deploy.md, behind nginx where there is one, four SuperNodes with data of
their own. They train to personal models; strangers get nothing.
"""

import contextlib
import csv
import http.client
import json
import os
import ssl
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from typer.testing import CliRunner

from caafp_app import cli
from caafp_app.devices.kept import find_kept
from caafp_app.devices.keys import make_device_keys, make_server_keys
from caafp_app.devices.personal import load_personal
from caafp_app.launch.presets import parse_pairs, read_preset
from caafp_app.launch.superlink import Connection, executable
from caafp_app.settings import Settings
from tests.e2e import guide
from tests.e2e.devices import CLASSES, SETTINGS, WINDOWS, write_devices
from tests.e2e.fleet import HOST, Daemon, Fleet, Security, fleet, supernode_command
from tests.e2e.front import front, nginx

pytestmark = pytest.mark.e2e

NODES = 4
NAMES = [f"pi-{number}" for number in range(1, NODES + 1)]
PATIENCE = ["--max-retries", "0"]
"""Strangers do not try again; real ones do for ever."""


@dataclass(frozen=True)
class Secured:
    """What is running, and where its keys are.

    Attributes
    ----------
    port : int
        That the network would see: nginx's, or the SuperLink's own where there is no nginx.
    """

    fleet: Fleet
    folder: Path
    keys: Path
    port: int

    @property
    def states(self) -> list[Path]:
        """Folders where the devices keep what they learnt."""
        return [self.folder / "states" / name for name in NAMES]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Follow the guide: keys, SuperLink, registration, four SuperNodes."""
    folder = tmp_path_factory.mktemp("secured")
    keys = folder / "keys"
    here = {"~/caafp-keys": str(keys)}
    _caafp(guide.words("server-keys", {**here, "SERVER": HOST}))
    for name in NAMES:
        _caafp(guide.words("device-keys", {**here, "pi-1": name}))
    superlink = guide.words("superlink", {**here, "~/superlink.db": str(folder / "superlink.db")})
    supernodes = [guide.words("supernode", {**here, "pi-1.key": f"{name}.key"}) for name in NAMES]
    (connection,) = tomllib.loads(
        guide.blocks()["connection"].replace("/home/me/caafp-keys", str(keys))
    )["superlink"].values()
    del connection["address"]

    def admit(operator: Connection) -> None:
        for name in NAMES:
            replaced = {**here, "pi-1": name, "devices": str(operator.name)}
            _flwr(guide.words("register", replaced), operator)

    security = Security(
        superlink=guide.options(superlink),
        supernode=[],
        connection=connection,
        own=[guide.options(words[1:], "--superlink", "--node-config") for words in supernodes],
        admit=admit,
    )
    nodes = [
        {"data-path": str(path), "label": name, "state-dir": str(folder / "states" / name)}
        for path, name in zip(write_devices(folder, NODES), NAMES, strict=True)
    ]
    ports: list[int] = []

    @contextlib.contextmanager
    def between(port: int) -> Iterator[int]:
        with contextlib.ExitStack() as stack:
            if nginx():
                port = stack.enter_context(front(folder / "nginx", keys, port, dict(os.environ)))
            ports.append(port)
            yield port

    with fleet(folder / "fleet", nodes, security=security, between=between, warm=True) as running:
        yield Secured(running, folder, keys, ports[0])
    assert running.family.members() == set()


def _caafp(words: list[str]) -> None:
    result = CliRunner().invoke(cli.app, words[1:])
    assert result.exit_code == 0, result.output


def _flwr(words: list[str], operator: Connection) -> str:
    done = subprocess.run(
        [executable(words[0]), *words[1:]],
        env=operator.environment,
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_devices_train_to_personal_models(secured: Secured) -> None:
    words = guide.words("run", {"128,3": "128,9", "classes=walking,sitting": "classes=6"})
    pairs = [word for word in words if "=" in word]
    directory = secured.fleet.caafp_run(
        SETTINGS
        | Settings.from_run_config(read_preset(words[2]) | parse_pairs(pairs)).changes()
        | {
            "warmup-rounds": 0,
            "cluster-rounds": 1,
            "prune-rounds": 1,
            "prune-every": 1,
            "clusters": 2,
            "local-epochs": 1,
            "output-dir": str(secured.folder),
            "run-name": "secured",
        }
    )
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    assert summary["clients"] == NODES, secured.fleet.story()
    assert summary["accuracy"]["personal"]["clients"] == NODES, secured.fleet.story()
    with (directory / "clients.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["label"]: row for row in csv.DictReader(stream)}
    assert sorted(rows) == NAMES
    for name, state in zip(NAMES, secured.states, strict=True):
        arrays, card = load_personal(find_kept(state).folder)
        assert card.label == name
        assert card.personal_accuracy == pytest.approx(float(rows[name]["personal_accuracy"]))
        assert card.sparsity == pytest.approx(0.7, abs=0.001)
        weights = np.concatenate([a.ravel() for a in arrays.values() if a.ndim > 1])
        # A cluster's model that is kept as it came also has zeros that have just grown.
        assert 0.699 <= np.mean(weights == 0) < 0.75
    assert not list(directory.rglob("*personal*"))


def test_a_device_predicts_with_what_it_learnt(secured: Secured) -> None:
    words = guide.words("predict", {"~/today/today.csv": str(secured.folder / "device-0.npz")})
    output = secured.folder / "classes.csv"
    words[words.index("--output") + 1] = str(output)
    _caafp([*words, "--state-dir", str(secured.states[0])])
    with output.open(encoding="utf-8", newline="") as stream:
        found = [row["class"] for row in csv.DictReader(stream)]
    assert len(found) == WINDOWS
    assert set(found) <= {str(k) for k in range(CLASSES)}


# -- strangers -----------------------------------------------------------------------------

REASONS = {
    "unknown": "[code: 2004] Failed to activate SuperNode",
    "keyless": "[code: 2001] SuperNode authentication is enabled",
    "misled": "certificate verify failed: unable to get local issuer certificate",
    "late": "certificate verify failed: certificate has expired",
    "plain": "Failed to initialize the connection to the SuperLink",
}
"""What each stranger's SuperNode says when it is turned away, or turns away itself."""


@pytest.fixture(scope="module")
def strangers(secured: Secured) -> dict[str, Daemon]:
    """SuperNodes that have to be turned away; each has ended by itself by now."""
    folder = secured.folder / "strangers"
    make_device_keys(folder, "stranger")
    make_server_keys(folder / "other", [HOST])
    year_ago = datetime.now(UTC) - timedelta(days=365)
    make_server_keys(folder / "expired", [HOST], days=30, now=year_ago)
    root, key = "--root-certificates", "--auth-supernode-private-key"
    ours = [root, str(secured.keys / "ca.pem")]
    known = [key, str(secured.keys / "pi-1.key")]
    options = {
        "unknown": [*ours, key, str(folder / "stranger.key")],
        "keyless": ours,
        "misled": [root, str(folder / "other" / "ca.pem"), *known],
        "late": [root, str(folder / "expired" / "ca.pem"), *known],
        "plain": ["--insecure"],
    }
    daemons = {}
    with https(folder / "expired") as expired:
        for name, chosen in options.items():
            port = expired if name == "late" else secured.port
            security = Security(supernode=[*chosen, *PATIENCE])
            command = supernode_command({"data-path": "none"}, port, security)
            environment = secured.fleet.connection.environment
            daemons[name] = Daemon(name, command, folder, environment)
            daemons[name].start()
        for daemon in daemons.values():
            assert daemon.await_end() != 0, daemon.text()
    return daemons


class _Silent(ThreadingHTTPServer):
    """Says nothing of those who hang up."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Hold its peace."""


@contextlib.contextmanager
def https(keys: Path) -> Iterator[int]:
    """Serve on a port with the certificate in a folder; nobody should come so far as to ask."""
    server = _Silent((HOST, 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "server.pem", keys / "server.key")
    # Shaking hands in the accepting thread would end it with the first who hangs up.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", REASONS)
def test_strangers_are_turned_away(strangers: dict[str, Daemon], name: str) -> None:
    said = strangers[name].text()
    assert REASONS[name] in said
    assert "SuperNode ID:" not in said


def test_nobody_but_the_registered_was_let_in(
    secured: Secured, strangers: dict[str, Daemon]
) -> None:
    operator = secured.fleet.connection
    words = ["flwr", "supernode", "list", str(operator.name), "--format", "json"]
    nodes = json.loads(_flwr(words, operator))["nodes"]
    assert [node["status"] for node in nodes] == ["online"] * NODES


@pytest.mark.parametrize(("signer", "status"), [("stranger", 401), ("pi-1", 200)])
def test_a_name_is_worth_nothing_without_its_key(
    secured: Secured, strangers: dict[str, Daemon], signer: str, status: int
) -> None:
    """A heartbeat in the name of the first device: as itself, and signed by another's key."""
    folder = secured.keys if signer == "pi-1" else secured.folder / "strangers"
    signing, claimed = _key(folder / f"{signer}.key"), _key(secured.keys / "pi-1.key").public_key()
    said = secured.fleet.supernodes[0].text()
    node = int(said.partition("SuperNode ID: ")[2].split()[0])
    request = SendNodeHeartbeatRequest(node=Node(node_id=node), heartbeat_interval=30.0)
    with FleetHttpClient.from_server_address(
        f"{HOST}:{secured.port}",
        False,
        (secured.keys / "ca.pem").read_bytes(),
        interceptors=[NodeAuthHttpInterceptor(signing, claimed)],
    ) as client:
        if status == 200:
            assert client.SendNodeHeartbeat(request).success
            return
        with pytest.raises(httpx.HTTPStatusError) as refused:
            client.SendNodeHeartbeat(request)
    assert refused.value.response.status_code == status


def _key(path: Path) -> EllipticCurvePrivateKey:
    key = load_ssh_private_key(path.read_bytes(), password=None)
    assert isinstance(key, EllipticCurvePrivateKey)
    return key


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/list-nodes",
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/docs",
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/%2e%2e/control/list-nodes",
    ],
)
def test_the_network_does_not_reach_the_operators_calls(secured: Secured, path: str) -> None:
    if not nginx():
        pytest.skip("no nginx here: the SuperLink itself is asked, which refuses nobody")
    context = ssl.create_default_context(cafile=str(secured.keys / "ca.pem"))

    def status(port: int) -> int:
        connection = http.client.HTTPSConnection(HOST, port, context=context, timeout=30.0)
        with contextlib.closing(connection):
            connection.request("GET" if path == "/docs" else "POST", path)
            return connection.getresponse().status

    assert status(secured.port) == 403
    if "fleet" not in path:  # what the front is for: the SuperLink refuses none of these
        assert status(int(secured.fleet.address.rpartition(":")[2])) not in (401, 403, 404)
