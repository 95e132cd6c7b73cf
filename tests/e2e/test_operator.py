"""An operator's day by the commands of the guide, and the strangers who come by.

A SuperLink as in docs/deploy.md, three devices with recordings of their own, and: a run, a second
one that is poorer, stopped and resumed, in which a device is lost and another one comes.
"""

import contextlib
import csv
import http.client
import json
import re
import ssl
import threading
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

from caafp_app.devices.kept import find_kept, list_kept
from caafp_app.devices.keys import make_device_keys, make_server_keys
from caafp_app.devices.personal import load_personal
from caafp_app.runs.live import LIVE
from tests.e2e import guide
from tests.e2e.browsing import BROWSER, browsed
from tests.e2e.devices import write_walks
from tests.e2e.fleet import HOST, RUN_SECONDS, Daemon, Security, free_port, supernode_command
from tests.e2e.front import nginx
from tests.e2e.guided import NAMES, Guided, caafp, guided

pytestmark = pytest.mark.e2e

PATIENCE = ["--max-retries", "0"]
"""Strangers do not try again; real ones do for ever."""
SHORT = ["warmup-rounds=1", "cluster-rounds=1", "prune-rounds=1", "prune-every=1"]
POORER = ["warmup-rounds=5", "cluster-rounds=1", "prune-rounds=0", "clusters=1", "local-epochs=1"]
POORER += ["learning-rate=1e-7", "finetune-learning-rate=1e-7", "finetune-epochs=1"]
DEADLINE = 25
SEEN = 10.0
"""Seconds after a missed deadline within which the page of `caafp watch` names the device."""
TODAY = 1000
"""Samples of the recording to be classified."""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guided]:
    """Follow the guide: keys, SuperLink, registration, three devices."""
    with guided(tmp_path_factory.mktemp("operator")) as running:
        yield running


def run_words(name: str, *settings: str) -> list[str]:
    """Return the guide's `caafp run`, of three devices, with more settings."""
    replaced = {"nodes=4": "nodes=3", "round=4": "round=3", "superlink devices": "superlink fleet"}
    return [*guide.words("run", replaced), f"run-name={name}", *settings]


def directory_of(run: Daemon, guided: Guided) -> Path:
    """Wait for the end of a `caafp run`; return its run directory."""
    guided.fleet.said = ""
    assert run.await_end(RUN_SECONDS) == 0, run.text() + guided.fleet.story()
    return Path(run.text().rpartition("Results: ")[2].strip())


def seconds_of(folder: Path, event: str, round_: int) -> float:
    """Return the last deadline of a round, in seconds since 1970."""
    lines = map(json.loads, (folder / LIVE).read_text(encoding="utf-8").splitlines())
    # A round in which a run was stopped is asked twice.
    return float([e for e in lines if e["event"] == event and e["round"] == round_][-1]["deadline"])


@pytest.fixture(scope="module")
def first(secured: Guided) -> Path:
    """The first run, to its end."""
    for name in NAMES:
        secured.fleet.supernodes[NAMES.index(name)].await_line("tasks are forked")
    run = secured.start(run_words("first", *SHORT, "clusters=2"), "first")
    return directory_of(run, secured)


@dataclass(frozen=True)
class Second:
    """The second run, and what was seen of it.

    What `caafp run` said until it was stopped, and resumed; the page of `caafp watch --web` after a
    device was lost, how many seconds after the missed deadline it said so (NaN without a browser),
    and the browser's complaints; what `caafp watch` says at the end.
    """

    directory: Path
    number: str
    stopped: str
    resumed: str
    page: str
    late: float
    complaints: list[str]
    watched: str


@pytest.fixture(scope="module")
def second(secured: Guided, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Second:
    """A poorer run, stopped after a round, resumed; a device loses power, a new one comes."""
    words = run_words("second", *POORER, f"round-timeout={DEADLINE}")
    run = secured.start(words, "second")
    run.await_line("round 1/")
    listed = secured.flwr([*guide.inline("flwr ls", {"devices": "fleet"}), "--format", "json"])
    number = json.loads(listed[listed.index("{") :])["runs"][0]["run-id"]
    secured.flwr(guide.inline("flwr stop", {"ID": number, "devices": "fleet"}))
    assert run.await_end() != 0, run.text()
    resume = guide.inline("caafp run ...")[-1]
    again = secured.start([*words, resume], "resumed")
    again.await_line("3 devices: ")
    folder, port = first.with_name("second"), free_port()
    lost = secured.fleet.supernodes[2]
    lost.kill()
    secured.new_device("pi-4")
    page, late, complaints = "", float("nan"), []
    if BROWSER is not None:
        server = secured.start([*guide.inline("caafp watch --web"), "--port", str(port)], "watch")
        server.await_line("http://")
        url = f"http://{HOST}:{port}/"
        with browsed(url, tmp_path_factory.mktemp("browser")) as seen:
            when = seen.await_text("pi-3 did not answer", 6 * DEADLINE)
            page, complaints = seen.text, seen.complaints
            rounds = re.findall(r"round (\d+): pi-3 did not answer", page)
            late = when - seconds_of(folder, "asked", int(rounds[-1]))
        server.kill()
    watched = caafp([*guide.inline("caafp watch"), "--once"])
    node = re.search(r"^pi-3 +(\d+)", watched, re.MULTILINE)
    assert node, watched
    secured.flwr(guide.inline("flwr supernode unregister", {"ID": node[1], "devices": "fleet"}))
    directory = directory_of(again, secured)
    assert directory == folder
    watched = caafp(guide.inline("caafp watch"))
    return Second(directory, number, run.text(), again.text(), page, late, complaints, watched)


def test_devices_train_to_personal_models(secured: Guided, first: Path) -> None:
    summary = json.loads((first / "summary.json").read_text(encoding="utf-8"))
    assert summary["clients"] == len(NAMES), secured.fleet.story()
    assert summary["accuracy"]["personal"]["clients"] == len(NAMES), secured.fleet.story()
    with (first / "clients.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["label"]: row for row in csv.DictReader(stream)}
    assert sorted(rows) == NAMES
    for name in NAMES:
        arrays, card = load_personal(list_kept(secured.state(name))[0].folder)
        assert card.label == name
        assert card.personal_accuracy == pytest.approx(float(rows[name]["personal_accuracy"]))
        assert card.sparsity == pytest.approx(0.7, abs=0.001)
        weights = np.concatenate([a.ravel() for a in arrays.values() if a.ndim > 1])
        # A cluster's model that is kept as it came also has zeros that have just grown.
        assert 0.699 <= np.mean(weights == 0) < 0.75
    assert not list(first.rglob("*personal*"))


def test_a_prediction_leaves_the_data_as_they_are(secured: Guided, first: Path) -> None:
    """`caafp node`, a day's recording classified, `caafp node` again."""
    walks = secured.walks("pi-1")
    words = [*guide.words("node", {"~/walks": str(walks)}), "--no-rehearse"]
    before = caafp(words)
    today = write_walks(secured.folder / "today", 9, TODAY) / "walk.csv"
    # Nobody has labelled a recording that is to be classified.
    unlabelled = [line.partition(",")[2] for line in today.read_text("utf-8").splitlines()]
    today.write_text("\n".join(unlabelled) + "\n", encoding="utf-8")
    output = secured.folder / "today" / "classes.csv"
    places = {"~/today/today.csv": str(today), "~/today/classes.csv": str(output)}
    caafp([*guide.words("predict", places), "--state-dir", str(secured.state("pi-1"))])
    with output.open(encoding="utf-8", newline="") as stream:
        found = [row["class"] for row in csv.DictReader(stream)]
    assert len(found) == 1 + (2 * TODAY - 128) // 64
    assert set(found) <= {"walking", "sitting"}
    assert caafp(words) == before


def test_a_poorer_run_leaves_the_better_model_in_its_place(secured: Guided, second: Second) -> None:
    for name in NAMES[:2]:
        kept = {one.card.run_name: one for one in list_kept(secured.state(name))}
        assert set(kept) == {"first", "second"}, secured.fleet.story()
        good, poor = (kept[run].card.personal_accuracy for run in ("first", "second"))
        assert (good or 0.0) > (poor or 0.0)  # or nothing is shown
        assert find_kept(secured.state(name)).card.run_name == "first"
        node = secured.fleet.supernodes[NAMES.index(name)].text()
        assert re.search(r"kept the personal model in .*; still serves run \d+", node)
        assert re.search(r"round 2, train: \d+ windows, accuracy of the received model", node)
    assert find_kept(secured.state("pi-4")).card.run_name == "second"


def test_the_operator_chooses_among_the_models(secured: Guided, second: Second) -> None:
    state = ["--state-dir", str(secured.state("pi-1"))]
    shown = caafp([*guide.inline("caafp personal list"), *state])
    assert [line[0] for line in shown.splitlines()[1:3]] == ["*", " "]
    use = guide.inline("caafp personal use RUN", {"RUN": "second"})
    caafp([*use, *state])
    assert find_kept(secured.state("pi-1")).card.run_name == "second"
    caafp([*use[:3], "best", *state])
    output = ["--output", str(secured.folder / "exported")]
    exported = caafp([*guide.inline("caafp personal export"), "first", *output, *state])
    assert Path(exported.splitlines()[-1]).is_file()


def test_a_run_is_stopped_and_resumed(secured: Guided, second: Second) -> None:
    assert "stopped" in second.stopped
    text = (second.directory / "rounds.jsonl").read_text(encoding="utf-8")
    rounds = [json.loads(line)["round"] for line in text.splitlines()]
    assert sorted(set(rounds)) == list(range(8))  # 0 is SNIP's exchange, 7 the personal models
    # The log of the run that was stopped is still there.
    log = secured.flwr(guide.inline("flwr log", {"ID": second.number, "devices": "fleet"}))
    assert "round 1/" in re.sub(r"\x1b\[[\d;]*m", "", log)


def test_who_is_lost_and_who_comes_is_said(second: Second) -> None:
    assert re.search(r"out of reach: .*pi-3", second.resumed), second.resumed
    assert re.search(r"there now: .*pi-4", second.resumed), second.resumed
    assert re.search(r"round \d: pi-3 did not answer", second.watched), second.watched
    assert "finished after 6 rounds" in second.watched
    summary = json.loads((second.directory / "summary.json").read_text(encoding="utf-8"))
    assert summary["accuracy"]["personal"]["clients"] == 3  # pi-1, pi-2 and pi-4
    assert "not scored in the end: pi-3" in second.resumed


def test_the_page_names_a_lost_device_within_seconds_of_its_deadline(second: Second) -> None:
    if BROWSER is None:
        pytest.skip("no browser: none of Chromium's names on the path, and CHROMIUM not set")
    assert second.late <= SEEN
    assert second.complaints == []
    assert "pi-1" in second.page


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
def strangers(secured: Guided) -> dict[str, Daemon]:
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
    secured: Guided, strangers: dict[str, Daemon]
) -> None:
    operator = secured.fleet.connection
    words = ["flwr", "supernode", "list", str(operator.name), "--format", "json"]
    nodes = json.loads(secured.flwr(words))["nodes"]
    # In place of the device that was shut out another one has come.
    assert sum(node["status"] == "online" for node in nodes) == len(NAMES)
    assert {node["status"] for node in nodes} <= {"online", "unregistered"}


@pytest.mark.parametrize(("signer", "status"), [("stranger", 401), ("pi-1", 200)])
def test_a_name_is_worth_nothing_without_its_key(
    secured: Guided, strangers: dict[str, Daemon], signer: str, status: int
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
def test_the_network_does_not_reach_the_operators_calls(secured: Guided, path: str) -> None:
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
