"""Devices that fork their tasks: what a message costs, and what a bad task does to a device."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import variant_trouble as trouble
from tests.e2e.devices import SETTINGS, write_devices
from tests.e2e.fleet import Fleet, Values, fleet
from tests.e2e.variant import variant

pytestmark = pytest.mark.e2e

MOST_SECONDS = 1.25
"""Processor time of a training message on a device, its own waiting included.

Alone on two cores it is 0.77 s, for a limit of 1. Beside the other worker of these tests, which
shares caches and memory, 1.04 s was seen.
"""

TIMEOUT = 20.0
"""``round-timeout`` of the run with trouble: a task that hangs is ended after nine tenths of it."""
NAMES = ("trouble", "sound", "well")


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three devices that have taken part in a run: the first one installs the app."""
    folder = tmp_path_factory.mktemp("warm")
    nodes = [
        {"data-path": str(path), "label": label, "state-dir": str(folder / label)}
        for path, label in zip(write_devices(folder), NAMES, strict=True)
    ]
    with fleet(folder / "fleet", nodes, warm=True, device=["--memory", "400"]) as running:
        for node in running.supernodes:
            node.await_line("tasks are forked")
        run(running, "first", {"warmup-rounds": 0})
        yield running
    assert running.family.members() == set()


def run(
    running: Fleet, name: str, changed: Values, app: Path | None = None
) -> list[dict[str, Any]]:
    """Train in one cluster; return the lines of rounds.jsonl."""
    settings = SETTINGS | {
        "cluster-rounds": 1,
        "prune-rounds": 1,
        "prune-every": 1,
        "clusters": 1,
        "output-dir": str(running.folder),
        "run-name": name,
        **changed,
    }
    if app is None:
        running.caafp_run(settings)
    else:
        assert running.flwr_run(app, settings).succeeded, running.story()
    text = (running.folder / "runs" / name / "rounds.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_message_costs_a_second_at_most_and_nothing_is_left(
    devices: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = int(os.environ.get("CAAFP_WARM_ROUNDS", "10"))
    before, memory = processor_time(devices), resident(devices)
    records = run(devices, "measured", {"warmup-rounds": rounds})
    after = processor_time(devices)
    assert after.keys() == before.keys()  # no process more than before
    grown = {pid: mb - memory[pid] for pid, mb in resident(devices).items()}
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


def test_a_task_that_crashes_hangs_or_takes_all_memory_is_an_error_reply(
    devices: Fleet, tmp_path: Path
) -> None:
    module = Path(trouble.__file__).read_text(encoding="utf-8")
    app = variant(tmp_path / "app", module, clientapp="troubled")
    pids = at_rest(devices)
    changed = {"warmup-rounds": 10, "strategy-args": "rest_after=0", "round-timeout": TIMEOUT}
    records = run(devices, "troubled", changed, app)
    assert at_rest(devices) == pids, devices.story()
    refused = {r["round"]: r["refusals"] for r in records if r["refusals"]}
    assert set(refused) == {trouble.KILLED, trouble.HUNG, trouble.GREEDY}, devices.story()
    assert all(list(found) == ["trouble"] for found in refused.values())
    assert "it was killed" in refused[trouble.KILLED]["trouble"]
    assert f"it was ended after {0.9 * TIMEOUT:.0f} s" in refused[trouble.HUNG]["trouble"]
    assert "MemoryError" in refused[trouble.GREEDY]["trouble"]
    assert sum(record["asked"] for record in records) + 3 >= 40  # and those of describe
    assert not any(record["missing"] for record in records)


def test_tasks_end_with_their_device(devices: Fleet) -> None:
    at_rest(devices)
    left = device_processes(devices)
    devices.supernodes.pop().kill()
    assert set(at_rest(devices)) < set(left)


def at_rest(running: Fleet) -> list[int]:
    """Wait until no task is at work: a SuperNode and an executor of each device are left."""
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
