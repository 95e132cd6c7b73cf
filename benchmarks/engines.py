"""Start-up and seconds a round of each engine, beside the same training in one torch process.

    python -m benchmarks.engines [--clients 10 100] [--rounds 4] [--json PATH]

See README.md for what is measured and how.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.federated import ROOT
from benchmarks.report import Report, Row, cores, median, parser
from benchmarks.rounds import bare
from caafp_app.launch.presets import to_toml
from caafp_app.settings import Settings

COLUMNS = {
    "engine": "engine",
    "clients": "clients a round",
    "startup_seconds": "start-up s",
    "seconds": "s a round",
    "per_client_ms": "ms a client",
    "load": "load",
}


def settings_of(engine: str, device: str, clients: int, rounds: int, folder: Path) -> Settings:
    """Return dense FedAvg of the paper's network, one epoch, with all clients in each round."""
    return Settings.from_run_config(
        {
            "strategy": "fedavg",
            "engine": engine,
            "device": device,
            "dataset": "synthetic",
            "synthetic-users": clients,
            "synthetic-windows": 160,
            "clients-per-round": clients,
            "local-epochs": 1,
            "finetune-epochs": 1,
            "warmup-rounds": rounds,
            "cluster-rounds": 0,
            "prune-rounds": 0,
            "checkpoint-every": 0,
            "output-dir": str(folder),
            "run-name": "run",
        }
    )


def measure(engine: str, device: str, clients: int, rounds: int) -> Row:
    """Run in a process of its own; its start-up ends with the plan, before the first round."""
    with tempfile.TemporaryDirectory(prefix="caafp-bench-") as scratch:
        folder = Path(scratch)
        settings = settings_of(engine, device, clients, rounds, folder)
        config = folder / "config.toml"
        config.write_text(to_toml(settings.to_dict()), encoding="utf-8")
        command = [sys.executable, "-m", "caafp_app.bench", str(config), str(clients), "1"]
        began, load = time.time(), os.getloadavg()[0]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"engine {engine} failed: {done.stderr[-3000:]}")
        run = folder / "runs" / "run"
        planned = (run / "plan.json").stat().st_mtime - began
        lines = (run / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    # All but the first round, and but the exchange at the end, which has the number of the last.
    seconds = {r["round"]: r["seconds"] for r in reversed(records) if r["round"] > 1}
    name = "ray" if engine == "ray" else f"batched-{device}"
    return _row(name, clients, median(list(seconds.values())), load) | {"startup_seconds": planned}


def rows_of(clients: int, rounds: int) -> Iterator[Row]:
    """Measure all engines that this machine has, and the bare training before and after them."""
    settings = settings_of("ray", "cpu", clients, rounds, Path())
    load = os.getloadavg()[0]
    walls = bare(settings, clients)[0][1:]
    for engine, device in (("ray", "cpu"), ("batched", "cpu"), ("batched", "cuda")):
        if device == "cpu" or _has_gpu():
            yield measure(engine, device, clients, rounds)
    walls += bare(settings, clients)[0][1:]
    yield _row("bare", clients, median(walls), load)


def _row(engine: str, clients: int, seconds: float, load: float) -> Row:
    return {
        "engine": engine,
        "clients": clients,
        "seconds": seconds,
        "per_client_ms": 1000 * seconds / clients,
        "load": load,
    }


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def main() -> None:
    """Measure, print, and end with a failure if anything does."""
    options = parser(__doc__)
    options.add_argument("--clients", type=int, nargs="+", default=[10, 100], metavar="N")
    options.add_argument("--rounds", type=int, default=4, help="the first is left out")
    chosen = options.parse_args()
    report = Report("engines", "Engines beside bare training", COLUMNS)
    for clients in chosen.clients:
        report.rows += rows_of(clients, chosen.rounds)
    report.notes = [
        f"{cores()} cores; medians without the first round; the load is that of the machine "
        "as each began: compare rows of one table alone"
    ]
    report.finish(chosen.json)


if __name__ == "__main__":
    main()
