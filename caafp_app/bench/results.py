"""A tidy table of runs: one row per run, as ``results.csv`` has it."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caafp_app.bench.file import BenchPlan, Case
from caafp_app.bench.place import BenchFolder
from caafp_app.runs.files import write_atomic
from caafp_app.runs.reading import RunFiles, read_run
from caafp_app.settings import Scalar

Cell = Scalar | None

_MB = 1e-6


@dataclass(frozen=True, eq=False)
class Result:
    """A finished run of a bench."""

    case: Case
    seed: int
    run: RunFiles

    def value(self, column: str) -> float | None:
        """Return a number of this run by the name of its column; None where it is not known."""
        found = COLUMNS[column](self.run.summary)
        return None if found is None else float(found)


def _at(*keys: str, times: float = 1.0) -> Callable[[Any], Any]:
    """Return a function that reads one number from a summary."""

    def read(summary: Any) -> Any:
        for key in keys:
            summary = summary.get(key) if isinstance(summary, dict) else None
        return summary if summary is None or times == 1.0 else times * summary

    return read


COLUMNS: dict[str, Callable[[Any], Any]] = {
    "personal-accuracy": _at("accuracy", "personal", "mean"),
    "personal-std": _at("accuracy", "personal", "std"),
    "personal-min": _at("accuracy", "personal", "min"),
    "personal-worst-tenth": _at("accuracy", "personal", "worst_tenth"),
    "cluster-accuracy": _at("accuracy", "cluster", "mean"),
    "cluster-std": _at("accuracy", "cluster", "std"),
    "cluster-min": _at("accuracy", "cluster", "min"),
    "cluster-worst-tenth": _at("accuracy", "cluster", "worst_tenth"),
    "personal-f1": _at("macro_f1", "personal", "mean"),
    "cluster-f1": _at("macro_f1", "cluster", "mean"),
    "unseen-accuracy": _at("accuracy", "unseen", "mean"),
    "sparsity-min": _at("sparsity", "personal_min"),
    "sparsity-mean": _at("sparsity", "personal_mean"),
    "finetune-epochs": _at("finetune_epochs"),
    "mb-down": _at("bytes", "down", times=_MB),
    "mb-up": _at("bytes", "up", times=_MB),
    "mb-total": _at("bytes", "total", times=_MB),
    "mb-formula": _at("bytes", "formula_total", times=_MB),
    "rounds": _at("rounds"),
    "seconds": _at("seconds", "total"),
    "clients": _at("clients"),
    "k": lambda summary: sum(1 for size in summary["clusters"] if size),
}
"""Numbers of a run by column. Accuracies are shares of 1, ``std`` is over clients, ``cluster`` is
the model before fine-tuning; ``finetune-epochs`` is the median of what clients found; MB are 10^6
bytes; ``k`` is the number of clusters."""


def gather(plan: BenchPlan, folder: BenchFolder) -> list[Result]:
    """Return the finished runs of a plan, case by case, seeds ascending."""
    return [
        Result(case, seed, read_run(folder.finished(case, seed)))
        for case in plan.cases
        for seed in sorted(plan.all_seeds)
        if folder.has(case, seed)
    ]


def rows(results: Sequence[Result]) -> list[dict[str, Cell]]:
    """Return a row per run: what was run, what was varied, what came out."""
    varied = dict.fromkeys(key for result in results for key in result.case.varied)
    found = []
    for result in results:
        settings, summary = result.run.settings, result.run.summary
        row: dict[str, Cell] = {
            "case": result.case.name,
            "strategy": summary["strategy"],
            "dataset": summary["dataset"],
            "seed": result.seed,
            "split": summary["accuracy"].get("split", "test"),
        }
        row |= {key: settings.get(key) for key in varied if key not in row}
        found.append(row | {name: read(summary) for name, read in COLUMNS.items()})
    return found


def write_csv(path: Path, table: Iterable[dict[str, Cell]]) -> None:
    """Write rows of equal columns; what is not known is empty."""
    lines = list(table)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(lines[0]) if lines else ["case"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomic(path, text.getvalue().encode())
