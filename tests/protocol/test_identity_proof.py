"""A label belongs to a key: signatures, replays, known devices, first use."""

from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from caafp_app.devices.keys import make_device_keys, make_server_keys
from caafp_app.errors import ProtocolError, SettingsError
from caafp_app.protocol.identity import Identities, Proof, holds, prove, read_known_devices
from caafp_app.protocol.messages import Action, Answer, Request
from caafp_app.protocol.mod import sparse_mod

RUN, NODE = 2**63 + 5, 2**62 + 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Keys of two devices."""
    for name in ("anna", "bert"):
        make_device_keys(tmp_path, name)
    return tmp_path


def of(folder: Path, name: str, *, run: int = RUN, node: int = NODE, label: str = "") -> Proof:
    return prove(folder / f"{name}.key", run, node, label or name)


def test_a_signature_holds_for_its_run_node_and_label_alone(folder: Path) -> None:
    proof = of(folder, "anna")
    assert holds(proof, RUN, NODE, "anna")
    for run, node, label in ((1, NODE, "anna"), (RUN, 1, "anna"), (RUN, NODE, "bert")):
        assert not holds(proof, run, node, label)
    assert not holds(Proof(proof.public_key, "AAAA"), RUN, NODE, "anna")
    assert not holds(Proof("ssh-ed25519 AAAA", proof.signature), RUN, NODE, "anna")
    assert not holds(Proof("\x00" * 900, "\x00"), RUN, NODE, "anna")


def test_known_devices_admit_a_label_to_its_key_only(folder: Path) -> None:
    (folder / "anna.key").rename(folder / "kept.key")
    anna = prove(folder / "kept.key", RUN, NODE, "anna")
    devices = Identities(read_known_devices(folder))
    assert devices.admit("anna", anna, RUN, NODE) == ""
    assert "did not sign" in devices.admit("anna", Proof(), RUN, NODE)
    assert "another key" in devices.admit("anna", of(folder, "bert", label="anna"), RUN, NODE)
    assert "no carl.pub" in devices.admit("carl", of(folder, "bert", label="carl"), RUN, NODE)
    # What another node overheard, or kept from an earlier run.
    assert "not of this run and node" in devices.admit("anna", anna, RUN, NODE + 1)
    assert "not of this run and node" in devices.admit("anna", anna, RUN + 1, NODE)


def test_without_known_devices_the_first_key_of_a_label_is_remembered(folder: Path) -> None:
    devices = Identities()
    assert devices.admit("anna", of(folder, "anna"), RUN, NODE) == ""
    again = Identities()
    again.restore(devices.state())
    for held in (devices, again):
        assert held.admit("anna", of(folder, "anna", node=7), RUN, 7) == ""
        assert "another key" in held.admit("anna", of(folder, "bert", label="anna"), RUN, NODE)
        assert "did not sign" in held.admit("anna", Proof(), RUN, NODE)
    assert devices.admit("plain", Proof(), RUN, NODE) == ""
    assert "plain" not in devices.state()


def test_a_device_signs_its_description_where_its_node_config_names_a_key(folder: Path) -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN, NODE
    app = ClientApp(mods=[sparse_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        raise AssertionError("a description asks for no training")

    def ask(config: dict[str, str]) -> Message:
        message = Message(Request(Action.DESCRIBE).to_records(), NODE, "train")
        return app(message, Context(RUN, NODE, dict(config), RecordDict(), {}))

    key = str(folder / "anna.key")
    answer = Answer.from_records(ask({"label": "anna", "key-path": key}).content)
    devices = Identities(read_known_devices(folder))
    assert devices.admit(answer.label, answer.proof, RUN, NODE) == ""
    assert Answer.from_records(ask({"label": "anna"}).content).proof == Proof()
    refused = ask({"label": "anna", "key-path": str(folder / "none.key")})
    assert "expected" in refused.error.reason
    assert "none.key" in refused.error.reason


def test_what_is_no_key_is_refused_with_a_sentence(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.pub").write_text("ssh-rsa nonsense")
    with pytest.raises(SettingsError, match="public key of a device"):
        read_known_devices(folder)
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match="found none"):
        read_known_devices(empty)
    make_server_keys(folder, ["example.org"])
    with pytest.raises(SettingsError, match="expected"):
        prove(folder / "server.key", RUN, NODE, "anna")


@pytest.mark.parametrize(
    "label", ["", "\x1b[2Jx", "a\nb", "a\u202eb", "a\x00", " a", "a" * 101, "<b>", "a/b"]
)
def test_the_server_takes_no_label_that_a_device_could_not_have(label: str) -> None:
    records = Answer(label, action=Action.DESCRIBE, round=0).to_records()
    with pytest.raises(ProtocolError, match="expected a label"):
        Answer.from_records(records)


def test_reasons_come_as_one_printable_line() -> None:
    idle = "no\x1b[2J data\nresults: /etc\u202e"
    records = Answer("a", idle=idle, action=Action.DESCRIBE, round=0).to_records()
    assert Answer.from_records(records).idle == "no?[2J data results: /etc?"
