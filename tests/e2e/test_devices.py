"""CA-AFP on a SuperLink and three warm devices, each with its own data, to personal models.

And the ledger of that run against the bytes that a proxy saw on the sockets, and a round by the
clock: one exchange of ours against the two of Flower's own loop, on these devices and on three of
Flower's own SuperNodes, where a message costs so much that there are few.
"""

import contextlib
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from caafp_app.devices.kept import find_kept
from tests.e2e.devices import CLASSES, SETTINGS, write_devices
from tests.e2e.fleet import Fleet, fleet
from tests.e2e.proxy import Call, CountingProxy, table, total
from tests.e2e.variant import variant

pytestmark = pytest.mark.e2e

LABELS = ["device-0", "device-1", "device-2"]
PHASES = ["describe", "warm-up", "cluster", "cluster-warm-up", "prune", "personalise"]
MESSAGE_CALLS = {"pull-object", "push-object", "push-messages", "confirm-message-received"}
"""Calls that only messages cause; besides these, ``pull-messages`` when it brings one."""
LARGEST_EMPTY_REPLY = 200
"""Bytes of a response to ``pull-messages`` that brings no message, with its head, at most."""
MOST_COLD, MOST_WARM = 0.75, 0.3
"""Shares of the stock round on stock devices that ours may take: the aims are a half and a fifth,
and machines have bad days."""


@dataclass(frozen=True)
class Devices:
    """Three warm devices with folder data behind a counting proxy."""

    fleet: Fleet
    proxy: CountingProxy
    folder: Path


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devices]:
    """Start SuperLink, proxy and three devices; afterwards none of their processes is left."""
    folder = tmp_path_factory.mktemp("devices")
    nodes = [{"data-path": str(path)} for path in write_devices(folder)]
    proxies: list[CountingProxy] = []

    @contextlib.contextmanager
    def between(port: int) -> Iterator[int]:
        with CountingProxy(port) as proxy:
            proxies.append(proxy)
            yield proxy.port

    with fleet(folder / "fleet", nodes, between=between, warm=True) as running:
        for node in running.supernodes:
            node.await_line("tasks are forked")
        yield Devices(running, proxies[0], folder)
        # Without this the next check would prove nothing.
        assert len(running.family.members()) >= 8
    assert running.family.members() == set()


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
            "share-class-counts": True,
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
    assert sorted(labels) == LABELS
    told = summary["classes"]["personal"]
    assert told["clients"] == 3
    assert [sum(row) for row in told["confusion"]] == [3 * 2] * CLASSES  # a fifth of 60 windows


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
    head = median(empty)
    # All but a few: now and then a poll is answered with fewer headers.
    assert sum(abs(size - head) < 0.02 * head for size in empty) >= 0.9 * len(empty)
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


def turns(running: Fleet, folder: Path, count: int) -> dict[str, float]:
    """Run both loops by turns on some devices, so many rounds of each, to personal models.

    Returns the mean seconds of a round of each.
    """
    folder.mkdir()
    module = Path(__file__).with_name("variant_rounds.py").read_text(encoding="utf-8")
    app = variant(folder / "app", module, serverapp="server")
    settings = {"warmup-rounds": count, "output-dir": str(folder)}
    outcome = running.flwr_run(app, SETTINGS | settings)
    assert outcome.succeeded, running.story()
    told: dict[str, list[dict[str, Any]]]
    told = json.loads((folder / "rounds.json").read_text(encoding="utf-8"))
    assert [turn["replies"] for turn in told["ours"]] == [[3]] * count
    assert [turn["replies"] for turn in told["stock"]] == [[3, 3]] * count
    assert all(0.0 <= turn["accuracy"] <= 1.0 for turn in told["ours"] + told["stock"])
    (personal,) = told.pop("personal")
    assert personal["replies"] == [3]
    return {name: sum(turn["seconds"] for turn in told[name]) / count for name in told}


def test_a_round_takes_half_of_the_stock_loop_and_a_fifth_on_warm_devices(
    devices: Devices, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All train the same epochs with the same ClientApp, and learn how good the model is."""
    warm = turns(devices.fleet, tmp_path / "warm", 2)
    nodes = [
        {"data-path": str(devices.folder / f"device-{k}.npz"), "state-dir": str(tmp_path / str(k))}
        for k in range(3)
    ]
    with fleet(tmp_path / "fleet", nodes) as running:
        cold = turns(running, tmp_path / "cold", 1)
    # Each of its processes ends with its message; what it has learnt is on the disk.
    assert [find_kept(tmp_path / str(k)).card.label for k in range(3)] == LABELS
    with capsys.disabled():
        print(
            f"\na round of 3 devices: stock loop on stock devices {cold['stock']:.1f} s; ours "
            f"there {cold['ours']:.1f} s, share {cold['ours'] / cold['stock']:.2f}; ours on warm "
            f"devices {warm['ours']:.1f} s, share {warm['ours'] / cold['stock']:.2f}; the stock "
            f"loop there {warm['stock']:.1f} s"
        )
    assert cold["ours"] <= MOST_COLD * cold["stock"]
    assert warm["ours"] <= MOST_WARM * cold["stock"]
