"""Start-up and seconds a round of each engine, beside the same training without ours.

    python -m benchmarks.engines [--clients 10 100] [--rounds 4] [--times 3] [--json PATH]

See README.md for what is measured and how.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.federated import ROOT
from benchmarks.report import Report, Row, Target, cores, median, parser
from benchmarks.rounds import bare
from caafp_app.launch.presets import to_toml
from caafp_app.settings import Settings

COLUMNS = {
    "clients": "clients a round",
    "engine": "engine",
    "startup_seconds": "start-up s",
    "seconds": "s a round",
    "per_client_ms": "ms a client",
    "to_ray": "x Ray's round",
    "load": "load",
}
STARTUP_SECONDS = 2.0
Measured = tuple[float | None, list[float]]
"""Seconds of the start-up, where there is one, and of each round but the first."""


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


def by_engine(engine: str, device: str, clients: int, rounds: int) -> Measured:
    """Run in a process of its own; its start-up ends with the plan, before the first round."""
    with tempfile.TemporaryDirectory(prefix="caafp-bench-") as scratch:
        folder = Path(scratch)
        settings = settings_of(engine, device, clients, rounds, folder)
        config = folder / "config.toml"
        config.write_text(to_toml(settings.to_dict()), encoding="utf-8")
        command = [sys.executable, "-m", "caafp_app.bench", str(config), str(clients), "1"]
        began = time.time()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"engine {engine} failed: {done.stderr[-3000:]}")
        run = folder / "runs" / "run"
        planned = (run / "plan.json").stat().st_mtime - began
        lines = (run / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    # Without the exchange at the end, which has the number of the last round.
    return planned, [r["seconds"] for r in records if r["round"] > 1 and r["phase"] == "train"]


def without_ours(module: str, clients: int, rounds: int) -> Measured:
    """Run a loop that needs none of ours but the data and the network."""
    settings = settings_of("ray", "cpu", clients, rounds, Path())
    return None, bare(settings, clients, module)[0][1:]


def candidates() -> dict[str, Callable[[int, int], Measured]]:
    """Return what can be measured on this machine, by name."""
    found: dict[str, Callable[[int, int], Measured]] = {
        "ray": partial(by_engine, "ray", "cpu"),
        "batched-cpu": partial(by_engine, "batched", "cpu"),
        "bare": partial(without_ours, "benchmarks.bare"),
    }
    if _has_gpu():
        found["batched-cuda"] = partial(by_engine, "batched", "cuda")
    if importlib.util.find_spec("pfl") is not None:
        found["pfl"] = partial(without_ours, "benchmarks.bare_pfl")
    return found


def rows_of(clients: int, rounds: int, times: int) -> list[Row]:
    """Measure all in turn, so often; a ratio is the median of those within each turn."""
    startup: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    load: dict[str, list[float]] = {}
    for _ in range(times):
        for name, measure in candidates().items():
            load.setdefault(name, []).append(os.getloadavg()[0])
            planned, walls = measure(clients, rounds)
            seconds.setdefault(name, []).append(median(walls))
            if planned is not None:
                startup.setdefault(name, []).append(planned)
    return [
        {
            "clients": clients,
            "engine": name,
            # The least, not the median: it is what others on the machine disturbed least.
            "startup_seconds": min(startup[name]) if name in startup else None,
            "seconds": median(walls),
            "per_client_ms": 1000 * median(walls) / clients,
            "to_ray": median([w / ray for w, ray in zip(walls, seconds["ray"], strict=True)]),
            "load": median(load[name]),
        }
        for name, walls in seconds.items()
    ]


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def main() -> None:
    """Measure, print, and judge the engine on a CPU."""
    options = parser(__doc__)
    options.add_argument("--clients", type=int, nargs="+", default=[10, 100], metavar="N")
    options.add_argument("--rounds", type=int, default=4, help="the first is left out")
    options.add_argument("--times", type=int, default=3, help="how often each engine runs")
    chosen = options.parse_args()
    report = Report("engines", "Engines beside bare training", COLUMNS)
    for clients in chosen.clients:
        rows = rows_of(clients, chosen.rounds, chosen.times)
        report.rows += rows
        ours = next(row for row in rows if row["engine"] == "batched-cpu")
        start, ratio = ours["startup_seconds"], ours["to_ray"]
        report.targets += [
            Target(f"start-up, batched-cpu, {clients} clients", start, STARTUP_SECONDS, "s"),
            Target(f"a round, batched-cpu, {clients} clients", ratio, 1.0, "x Ray's"),
        ]
    report.notes = [f"{cores()} cores; medians, without each first round; start-up: the least"]
    lacking = {"batched-cuda": "no GPU", "pfl": "not installed"}
    for name in sorted(lacking.keys() - candidates().keys()):
        report.notes.append(f"{name}: not measured, {lacking[name]}")
    report.finish(chosen.json)


if __name__ == "__main__":
    main()
