"""What a SuperNode takes of its device while it waits: the figures of docs/devices.md.

    taskset -c 0 python -m benchmarks.supernode_cost

Linux only. Two processes stay: the SuperNode, and the SuperExec that starts one for each message.
"""

import tempfile
import time
from pathlib import Path

from benchmarks.variant_exchange import usage
from caafp_app.launch.processes import Process
from tests.e2e.fleet import fleet

SECONDS = 60.0


def main() -> None:
    """Measure and print."""
    with (
        tempfile.TemporaryDirectory(prefix="caafp-cost-") as name,
        fleet(Path(name) / "fleet", [{"label": "one"}]) as running,
    ):
        node = running.supernodes[0].pid
        family = [node, *_children(node, running.family.members())]
        time.sleep(10.0)  # what it imports as it starts is not what it takes to wait
        before = {pid: usage(pid) for pid in family}
        time.sleep(SECONDS)
        for pid in family:
            cpu, resident = usage(pid)
            share = 100 * (cpu - before[pid][0]) / SECONDS
            print(f"{_name(pid):20} {resident:6.0f} MB resident, {share:.1f} % of one processor")


def _children(parent: int, members: set[Process]) -> list[int]:
    found = []
    for process in members:
        stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8")
        if int(stat.rpartition(")")[2].split()[1]) == parent:
            found.append(process.pid)
    return found


def _name(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return next(Path(w.decode()).name for w in words if b"flower-" in w)


if __name__ == "__main__":
    main()
