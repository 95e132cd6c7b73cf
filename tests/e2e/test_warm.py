"""Devices that fork their tasks: what a message costs, and what a bad task does to a device."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from caafp_app.devices.kept import find_kept
from tests.e2e import variant_trouble as trouble
from tests.e2e.devices import SETTINGS, write_devices
from tests.e2e.fleet import Fleet, fleet
from tests.e2e.variant import variant

pytestmark = pytest.mark.e2e

MOST_SECONDS = 1.0
"""Processor time of a training message on a device, its own waiting included."""


def run(running: Fleet, folder: Path, rounds: int, **settings: Any) -> list[dict[str, Any]]:
    """Train in one cluster; return the lines of rounds.jsonl."""
    directory = running.caafp_run(
        SETTINGS
        | {
            "warmup-rounds": rounds,
            "cluster-rounds": 1,
            "prune-rounds": 1,
            "prune-every": 1,
            "clusters": 1,
            "output-dir": str(folder),
            **settings,
        }
    )
    text = (directory / "rounds.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_message_costs_a_second_at_most_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = int(os.environ.get("CAAFP_WARM_ROUNDS", "10"))
    nodes = [
        {"data-path": str(path), "label": path.stem, "state-dir": str(tmp_path / path.stem)}
        for path in write_devices(tmp_path)
    ]
    with fleet(tmp_path / "fleet", nodes, warm=True) as running:
        for node in running.supernodes:
            node.await_line("tasks are forked")
        run(running, tmp_path, 1)  # the first run installs the app
        before, memory = processor_time(running), resident(running)
        records = run(running, tmp_path, rounds)
        after = processor_time(running)
        assert after.keys() == before.keys()  # no process more than before
        grown = {pid: mb - memory[pid] for pid, mb in resident(running).items()}
        messages = sum(record["asked"] for record in records) + 3  # of describe
        seconds = sum(after.values()) - sum(before.values())
        with capsys.disabled():
            print(
                f"\n{messages} messages, {seconds / messages:.2f} s of processor time each; a "
                f"round takes {sum(r['seconds'] for r in records) / len(records):.1f} s; memory "
                f"grew by {max(grown.values()):.0f} MB at most in {len(records)} exchanges"
            )
        assert all(record["answered"] == 3 for record in records)
        assert seconds <= MOST_SECONDS * messages
        assert max(grown.values()) < 40
        said = plain(running.supernodes[0].text())
        assert re.search(r"round 2, train: \d+ windows, accuracy of the received model", said)
        assert re.search(r"kept the personal model in .*; (still )?serves run \d+", said)
        assert find_kept(tmp_path / "device-0").served
    assert running.family.members() == set()


def test_a_task_that_crashes_hangs_or_takes_all_memory_is_an_error_reply(tmp_path: Path) -> None:
    module = Path(trouble.__file__).read_text(encoding="utf-8")
    app = variant(tmp_path / "app", module, clientapp="troubled")
    labels = ("trouble", "sound")
    nodes = [
        {"data-path": str(path), "label": label, "state-dir": str(tmp_path / label)}
        for path, label in zip(write_devices(tmp_path, 2), labels, strict=True)
    ]
    settings = SETTINGS | {
        "min-available-nodes": 2,
        "clients-per-round": 2,
        "warmup-rounds": 16,
        "cluster-rounds": 1,
        "prune-rounds": 1,
        "prune-every": 1,
        "clusters": 1,
        "strategy-args": "rest_after=0",
        "round-timeout": 40.0,
        "output-dir": str(tmp_path),
        "run-name": "troubled",
    }
    with fleet(tmp_path / "fleet", nodes, warm=True, device=["--memory", "400"]) as running:
        for node in running.supernodes:
            node.await_line("tasks are forked")
        pids = at_rest(running)
        outcome = running.flwr_run(app, settings)
        assert outcome.succeeded, running.story()
        text = (tmp_path / "runs" / "troubled" / "rounds.jsonl").read_text(encoding="utf-8")
        records = [json.loads(line) for line in text.splitlines()]
        assert at_rest(running) == pids, running.story()
        refused = {r["round"]: r["refusals"] for r in records if r["refusals"]}
        assert set(refused) == {trouble.KILLED, trouble.HUNG, trouble.GREEDY}, running.story()
        assert all(list(found) == ["trouble"] for found in refused.values())
        assert "it was killed" in refused[trouble.KILLED]["trouble"]
        assert "it was ended after 36 s" in refused[trouble.HUNG]["trouble"]
        assert "MemoryError" in refused[trouble.GREEDY]["trouble"]
        assert sum(record["asked"] for record in records) >= 38
        assert not any(record["missing"] for record in records)


def test_tasks_end_with_their_device(tmp_path: Path) -> None:
    nodes = [{"data-path": str(path)} for path in write_devices(tmp_path, 1)]
    with fleet(tmp_path / "fleet", nodes, warm=True) as running:
        (node,) = running.supernodes
        node.await_line("tasks are forked")
        assert len(at_rest(running)) == 2
        node.kill()
        deadline = time.monotonic() + 60
        while device_processes(running) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not device_processes(running)


def at_rest(running: Fleet) -> list[int]:
    """Wait until no task is at work: a SuperNode and an executor of each device are left.

    Raises
    ------
    AssertionError
        There are more, or fewer, after half a minute.
    """
    wanted, deadline = 2 * len(running.supernodes), time.monotonic() + 30
    while len(found := device_processes(running)) != wanted:
        assert time.monotonic() < deadline, f"expected {wanted} processes, found {found}"
        time.sleep(0.2)
    return sorted(found)


def processor_time(running: Fleet) -> dict[int, float]:
    """Return seconds by process of all devices at rest, of ended tasks too."""
    found = {}
    for pid in at_rest(running):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        found[pid] = sum(map(int, stat[11:15])) / os.sysconf("SC_CLK_TCK")
    return found


def resident(running: Fleet) -> dict[int, float]:
    """Return MB by process of all devices."""
    found = {}
    for pid in at_rest(running):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        found[pid] = int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6
    return found


def device_processes(running: Fleet) -> list[int]:
    """Return the ids of what `caafp device` is made of, and of tasks that go on."""
    found = []
    for process in running.family.members():
        try:
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"caafp_app.devices.warm.process" in words or b"device" in words:
            found.append(process.pid)
    return found


def plain(text: str) -> str:
    """Return a log without the colours of a terminal."""
    return re.sub(r"\x1b\[\d*m", "", text)
