"""Accuracy of clients trained as one stack beside that of the same clients one after another.

    python -m benchmarks.stacked [--dataset digits] [--rounds 6] [--seeds 1 2 3] [--json PATH]

See README.md for what is measured and how.
"""

import logging
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.report import Report, Row, Target, parser
from caafp_app import server_app
from caafp_app.engine.answer import Perform, answer_all
from caafp_app.engine.grid import BatchedGrid
from caafp_app.engine.perform import Together, one_by_one
from caafp_app.registry import STRATEGIES
from caafp_app.runs.reading import read_run
from caafp_app.settings import Settings

CLIENTS = 10
TOLERANCE = 0.5
COLUMNS = {
    "strategy": "strategy",
    "accuracy": "accuracy of",
    "alone": "one by one, %",
    "stacked": "stacked, %",
    "difference": "mean difference, points",
    "largest": "largest of a seed",
}


def accuracies(
    perform: Perform, strategy: str, dataset: str, rounds: int, seed: int
) -> dict[str, float]:
    """Run in this process; return the mean accuracy over clients, in percent, of each model."""
    with tempfile.TemporaryDirectory(prefix="caafp-bench-") as folder:
        settings = Settings.from_run_config(
            {
                "strategy": strategy,
                "dataset": dataset,
                "partition": "dirichlet" if dataset == "digits" else "natural",
                "model": "digits-cnn" if dataset == "digits" else "har-cnn",
                "synthetic-users": CLIENTS,
                "seed": seed,
                "data-seed": seed,
                "clients-per-round": CLIENTS,
                "learning-rate": 0.003,
                "local-epochs": 2,
                "finetune-epochs": 2,
                "warmup-rounds": 2,
                "cluster-rounds": 1,
                "prune-rounds": rounds - 3,
                "prune-every": 1,
                "checkpoint-every": 0,
                "output-dir": folder,
                "run-name": "run",
            }
        )
        grid = BatchedGrid(settings, CLIENTS, partial(answer_all, perform=perform))
        server_app.run(grid, settings)
        found = read_run(Path(folder) / "runs" / "run").summary["accuracy"]
    return {
        kind: 100 * scores["mean"]
        for kind, scores in found.items()
        if isinstance(scores, dict) and scores.get("mean") is not None
    }


def rows_of(strategy: str, dataset: str, rounds: int, seeds: list[int]) -> list[Row]:
    """Compare over seeds: a row for each kind of model that the strategy's clients end with."""
    alone, stacked = (
        [accuracies(perform, strategy, dataset, rounds, seed) for seed in seeds]
        for perform in (one_by_one("cpu"), Together("cpu"))
    )
    rows = []
    for kind in alone[0]:
        pairs = [(one[kind], other[kind]) for one, other in zip(alone, stacked, strict=True)]
        first, second = (sum(values) / len(seeds) for values in zip(*pairs, strict=True))
        rows.append(
            {
                "strategy": strategy,
                "accuracy": kind,
                "alone": first,
                "stacked": second,
                "difference": second - first,
                "largest": max((other - one for one, other in pairs), key=abs),
            }
        )
    return rows


def main() -> None:
    """Run, print, and judge."""
    options = parser(__doc__)
    options.add_argument("--dataset", choices=["digits", "synthetic"], default="digits")
    options.add_argument("--strategies", nargs="+", default=list(STRATEGIES.builtin))
    options.add_argument("--rounds", type=int, default=6)
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    chosen = options.parse_args()
    logging.getLogger("flwr").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    report = Report("stacked", "Stacked clients beside one after another", COLUMNS)
    for strategy in chosen.strategies:
        rows = rows_of(strategy, chosen.dataset, chosen.rounds, chosen.seeds)
        report.rows += rows
        worst = max(abs(row["difference"]) for row in rows)
        report.targets.append(Target(f"difference, {strategy}", worst, TOLERANCE, "points"))
    report.notes = [f"{chosen.dataset}, {CLIENTS} clients, seeds {chosen.seeds}, on the CPU"]
    report.finish(chosen.json)


if __name__ == "__main__":
    main()
