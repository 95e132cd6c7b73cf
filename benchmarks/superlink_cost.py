"""What a SuperLink costs per device, poll and message: the figures of docs/scale.md.

    python -m benchmarks.superlink_cost

Linux only. Processor seconds are those of the processes, so a busy machine changes them less than
it does the clock; those of an exchange are without the polls that brought nothing meanwhile.
"""

import contextlib
import json
import tempfile
from pathlib import Path

from flwr.supernode.fleet_http_connection import http_request_response

from benchmarks.light_nodes import answering
from benchmarks.variant_exchange import usage
from tests.e2e.fleet import Fleet, fleet
from tests.e2e.variant import variant

NODES = 12
POLLS = 400
REGISTERED = 200
_COLUMNS = {
    "seconds per client": "seconds",
    "SuperLink, processor": "superlink_cpu",
    "ServerApp, processor": "server_cpu",
}


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="caafp-cost-") as name:
        folder = Path(name)
        with fleet(folder / "fleet", []) as running:
            address = running.address
            pid = running.superlink.pid
            _show("registration", *_registrations(address, pid))
            count, seconds, megabytes = _polls(address, pid)
            _show("empty poll", count, seconds, megabytes)
            with answering(address, NODES) as empty:
                told = _exchanges(running, folder)
    print(f"{'exchange':14}{'bytes each way':>16}" + "".join(f"{name:>26}" for name in _COLUMNS))
    for size, row in told.items():
        ended = row["began"] + row["seconds"]
        polls = sum(row["began"] <= moment <= ended for moment in empty)
        row["superlink_cpu"] -= polls * seconds / count
        clients = row["messages"]
        cells = [f"{1e3 * row[key] / clients:23.1f} ms" for key in _COLUMNS.values()]
        print(f"{size:14}{row['bytes'] / clients / 2:16.0f}" + "".join(cells))


def _show(what: str, count: int, seconds: float, megabytes: float) -> None:
    print(
        f"{what:14} {1e3 * seconds / count:8.2f} ms of the SuperLink's CPU, "
        f"{1e6 * megabytes / count:8.0f} bytes of its memory"
    )


def _registrations(address: str, pid: int) -> tuple[int, float, float]:
    before = usage(pid)
    with contextlib.ExitStack() as stack:
        for _ in range(REGISTERED):
            stack.enter_context(http_request_response(address, insecure=True))
        after = usage(pid)
    return REGISTERED, after[0] - before[0], after[1] - before[1]


def _polls(address: str, pid: int) -> tuple[int, float, float]:
    with http_request_response(address, insecure=True) as (_, receive, *_rest):
        receive()
        before = usage(pid)
        for _ in range(POLLS):
            assert receive() is None
        after = usage(pid)
    return POLLS, after[0] - before[0], after[1] - before[1]


def _exchanges(running: Fleet, folder: Path) -> dict[str, dict[str, float]]:
    module = Path(__file__).with_name("variant_exchange.py").read_text(encoding="utf-8")
    app = variant(folder / "app", module, serverapp="server")
    outcome = running.flwr_run(app, {"num-clients": NODES, "output-dir": str(folder)})
    assert outcome.succeeded, running.story()
    told: dict[str, dict[str, float]] = json.loads((folder / "exchanges.json").read_text())
    return told


if __name__ == "__main__":
    main()
