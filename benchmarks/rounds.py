"""Seconds per round of ``flwr run`` in simulation, beside the same training in one torch process.

    python -m benchmarks.rounds [--data-dir PATH] [--full] [--json PATH]

See README.md for what is measured and how.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.federated import ROOT, run
from benchmarks.report import Report, Row, Target, cores, median, parser
from caafp_app.launch.plan import count_supernodes
from caafp_app.launch.presets import merged
from caafp_app.launch.source import default_config
from caafp_app.settings import Scalar, Settings

FACTOR, ALLOWANCE = 1.25, 0.15
"""A round may take so many times the bare training over the cores, and so many seconds more."""

QUICK: dict[str, Scalar] = {
    "warmup-rounds": 4,
    "cluster-rounds": 2,
    "prune-rounds": 4,
    "prune-every": 2,
    "finetune-epochs": 1,
}
SYNTHETIC: dict[str, Scalar] = {"dataset": "synthetic", "synthetic-windows": 160}
COLUMNS = {
    "dataset": "data",
    "phase": "phase",
    "rounds": "rounds",
    "seconds": "s a round",
    "bare_seconds": "bare s",
    "ideal_seconds": "bare / cores",
    "limit_seconds": "at most",
    "overhead": "overhead",
}


def measure(dataset: str, settings: dict[str, Scalar]) -> list[Row]:
    """Train barely, run, train barely again; compare round by round, by phase.

    The same rounds of the bare training are timed before and after, and the mean of both taken, so
    that a machine that others use at the time is as busy for it as for the run.
    """
    checked = Settings.from_run_config(default_config() | settings)
    nodes = count_supernodes(checked, None)
    before = bare(checked, nodes)
    finished = run(settings)
    after = bare(checked, nodes)
    alone = [
        [(first + second) / 2 for first, second in zip(*pair, strict=True)]
        for pair in zip(before, after, strict=True)
    ]
    phases: dict[str, list[dict[str, Any]]] = {}
    for record in finished.numbered():
        if record["round"] > 1:  # clients start in the first
            phases.setdefault(str(record["phase"]), []).append(record)
    phases["all"] = [record for records in phases.values() for record in records]
    return [_row(dataset, phase, records, *alone) for phase, records in phases.items()]


def bare(
    settings: Settings, nodes: int, module: str = "benchmarks.bare"
) -> tuple[list[float], list[float]]:
    """Return wall and CPU seconds of each round's training in one process without ours."""
    with tempfile.TemporaryDirectory(prefix="caafp-bench-") as folder:
        path = Path(folder) / "bare.json"
        given = {"settings": settings.to_dict(), "nodes": nodes}
        path.write_text(json.dumps(given), encoding="utf-8")
        command = [sys.executable, "-m", module, str(path)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{module} failed: {result.stderr[-3000:]}")
    wall, cpu = json.loads(result.stdout.splitlines()[-1])
    return wall, cpu


def report_on(datasets: dict[str, dict[str, Scalar]]) -> Report:
    """Measure data sets and judge them."""
    report = Report("rounds", "Rounds of a simulation beside bare training", COLUMNS)
    for dataset, settings in datasets.items():
        rows = measure(dataset, settings)
        report.rows += rows
        everything = rows[-1]
        report.targets.append(
            Target(
                f"seconds a round, {dataset}",
                everything["seconds"],
                everything["limit_seconds"],
                f"s = {FACTOR} x bare / cores + {ALLOWANCE}",
            )
        )
    report.notes = [f"medians; {cores()} cores; the first round, in which clients start, left out"]
    return report


def _row(
    dataset: str, phase: str, records: list[dict[str, Any]], wall: list[float], cpu: list[float]
) -> Row:
    seconds = median([record["seconds"] for record in records])
    alone = median([wall[record["round"] - 1] for record in records])
    ideal = alone / cores()
    return {
        "dataset": dataset,
        "phase": phase,
        "rounds": len(records),
        "seconds": seconds,
        "bare_seconds": alone,
        "bare_cpu_seconds": median([cpu[record["round"] - 1] for record in records]),
        "ideal_seconds": ideal,
        "limit_seconds": FACTOR * ideal + ALLOWANCE,
        "overhead": 1.0 - ideal / seconds,
    }


def main() -> None:
    """Measure and print."""
    options = parser(
        "Seconds per round of a simulation beside bare training.",
        full="the rounds of the preset caafp instead of 10",
    )
    options.add_argument(
        "--data-dir", type=Path, metavar="PATH", help="UCI HAR, as the setting: measured, too"
    )
    chosen = options.parse_args()
    plan = merged("caafp", []).to_dict() if chosen.full else {}
    rounds = {key: plan.get(key, value) for key, value in QUICK.items()}
    datasets = {"synthetic": {**SYNTHETIC, **rounds}}
    if chosen.data_dir is not None:
        uci: dict[str, Scalar] = {"dataset": "uci-har", "data-dir": str(chosen.data_dir.resolve())}
        datasets["uci-har"] = {**uci, **rounds}
    report_on(datasets).finish(chosen.json)


if __name__ == "__main__":
    main()
