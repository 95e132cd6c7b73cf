"""A ServerApp that holds exchanges of messages of a given size, and notes what they cost.

For `superlink_cost`.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

from caafp_app.protocol.payload import attach
from caafp_app.runner.exchange import Exchange
from caafp_app.runs.ledger import Ledger

EXCHANGES = {"lean": (9_000, 4), "float32": (357_000, 2)}
"""Bytes of a message's values, and how many exchanges with all nodes."""

server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Send to all nodes, again and again; messages have the records of ours."""
    while len(nodes := list(grid.get_node_ids())) < int(context.run_config["num-clients"]):
        time.sleep(0.2)
    superlink = _parent(os.getppid())
    told = {}
    for name, (size, rounds) in {"warm-up": (1000, 1), **EXCHANGES}.items():
        ledger = Ledger()
        exchange = Exchange(grid, ledger)
        began = time.monotonic(), time.process_time(), usage(superlink)[0]
        for number in range(rounds):
            values = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
            header = ConfigRecord({"action": "train", "round": number})
            content = RecordDict({"caafp": header})
            attach(content, {"values": values, "rest": values[:800]})
            messages = [Message(content, node, MessageType.TRAIN) for node in nodes]
            for reply in exchange.run(messages, phase=name, round=number, timeout=600.0):
                del reply
            assert not exchange.missing
        told[name] = {
            "messages": rounds * len(nodes),
            "bytes": ledger.total,
            "began": began[0],
            "seconds": time.monotonic() - began[0],
            "server_cpu": time.process_time() - began[1],
            "superlink_cpu": usage(superlink)[0] - began[2],
            "superlink_mb": usage(superlink)[1],
        }
    path = Path(str(context.run_config["output-dir"]), "exchanges.json")
    path.write_text(json.dumps(told), encoding="utf-8")


def usage(pid: int) -> tuple[float, float]:
    """Return processor seconds and resident megabytes of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
