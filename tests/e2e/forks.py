"""The processes of devices that fork their tasks: how many, how long they worked, how large."""

import os
import time
from pathlib import Path

from tests.e2e.fleet import Fleet


def at_rest(running: Fleet) -> list[int]:
    """Wait until no task is at work: a SuperNode and an executor of each device are left."""
    wanted, deadline = 2 * len(running.supernodes), time.monotonic() + 120
    while len(found := forks(running)) != wanted:
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


def forks(running: Fleet) -> list[int]:
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
