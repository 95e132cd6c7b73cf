"""CA-AFP on a SuperLink and three SuperNodes, each with its own data, to personal models.

And the ledger of that run against the bytes that a proxy saw on the sockets.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Devices
from tests.e2e.devices import SETTINGS
from tests.e2e.proxy import Call, table, total

pytestmark = pytest.mark.e2e

PHASES = ["describe", "warm-up", "cluster", "cluster-warm-up", "prune", "personalise"]
MESSAGE_CALLS = {"pull-object", "push-object", "push-messages", "confirm-message-received"}
"""Calls that only messages cause; besides these, ``pull-messages`` when it brings one."""
LARGEST_EMPTY_REPLY = 200
"""Bytes of a response to ``pull-messages`` that brings no message, with its head, at most."""


@dataclass(frozen=True)
class Finished:
    """A run, and the calls that were made during it."""

    directory: Path
    summary: dict[str, Any]
    calls: list[Call]


@pytest.fixture(scope="module")
def finished(devices: Devices) -> Finished:
    """Run every phase of CA-AFP once, and count."""
    start = len(devices.proxy.calls)
    directory = devices.fleet.caafp_run(
        SETTINGS
        | {
            "warmup-rounds": 1,
            "cluster-rounds": 1,
            "prune-rounds": 1,
            "prune-every": 1,
            "clusters": 2,
            "sparsity": 0.7,
            "output-dir": str(devices.folder),
            "run-name": "whole",
        }
    )
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    return Finished(directory, summary, devices.proxy.calls[start:])


def test_every_device_gets_a_personal_model(devices: Devices, finished: Finished) -> None:
    summary, story = finished.summary, devices.fleet.story()
    assert finished.directory == devices.folder / "runs" / "whole"
    assert (summary["clients"], summary["rounds"]) == (3, 3), story
    assert sorted(summary["clusters"]) == [1, 2]
    for model in ("cluster", "personal"):
        assert summary["accuracy"][model]["clients"] == 3, story
        assert 0.0 <= summary["accuracy"][model]["mean"] <= 1.0
    assert summary["sparsity"]["personal_min"] == pytest.approx(0.7, abs=0.001)
    with (finished.directory / "clients.csv").open(encoding="utf-8", newline="") as stream:
        labels = [row["label"] for row in csv.DictReader(stream)]
    assert sorted(labels) == ["device-0", "device-1", "device-2"]


def test_everyone_answered_in_every_phase(finished: Finished) -> None:
    text = (finished.directory / "rounds.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()]
    assert [record["phase"] for record in records] == PHASES[1:]
    for record in records:
        assert (record["asked"], record["answered"], record["refused"]) == (3, 3, 0), record
        assert record["missing"] == []
    assert finished.summary["bytes"]["messages"] == {"down": 18, "up": 18}
    assert list(finished.summary["bytes"]["by_phase"]) == PHASES
    kept = sorted(path.name for path in (finished.directory / "models").iterdir())
    assert kept == ["cluster-0.safetensors", "cluster-1.safetensors"]


def test_the_ledger_agrees_with_the_sockets(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within 3 % of what passed for messages, the heads of HTTP and all; within 1 % without.

    Not of a message, each by its path: polls that brought nothing, heartbeats, and the app itself
    (``get-run``, ``get-fab``). A head is as long as a poll that brings nothing.
    """
    calls = [call for call in finished.calls if _of_a_message(call)]
    rest = [call for call in finished.calls if not _of_a_message(call)]
    empty = [call.total for call in rest if call.path == "pull-messages"]
    head = sum(empty) / len(empty)
    assert max(empty) - min(empty) < 0.02 * head
    others = {call.path for call in rest}
    assert others <= {"pull-messages", "send-node-heartbeat", "get-run", "get-fab"}
    ledger = finished.summary["bytes"]["total"]
    messages = sum(finished.summary["bytes"]["messages"].values())
    assert ledger / messages > 200e3  # models of UCI's size travelled
    heads = len(calls) * head
    seen = total(calls) - heads
    with capsys.disabled():
        print(
            f"\n{table(finished.calls)}\n"
            f"sockets: {total(finished.calls)} bytes, of messages {total(calls)}, of which heads "
            f"of {len(calls)} calls {heads:.0f}; ledger: {ledger} "
            f"({100 * (ledger / total(calls) - 1):+.1f} % with heads, "
            f"{100 * (ledger / seen - 1):+.2f} % without)\n"
            f"a message: {ledger / messages:.0f} bytes and "
            f"{(total(calls) - ledger) / messages:.0f} of transport in "
            f"{len(calls) / messages:.1f} calls"
        )
    assert ledger == pytest.approx(total(calls), rel=0.03)
    assert ledger == pytest.approx(seen, rel=0.01)


def _of_a_message(call: Call) -> bool:
    brought = call.path == "pull-messages" and call.down > LARGEST_EMPTY_REPLY
    return call.path in MESSAGE_CALLS or brought
