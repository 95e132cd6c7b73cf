"""Everything that a bench leaves beside its runs: tables, comparison, figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caafp_app.bench.figures.of_bench import draw_clients, draw_cost, draw_rounds
from caafp_app.bench.figures.of_run import draw_dendrogram, draw_density, draw_masks
from caafp_app.bench.figures.style import save
from caafp_app.bench.figures.sweep import draw_sweep, swept
from caafp_app.bench.file import BenchPlan
from caafp_app.bench.place import BenchFolder
from caafp_app.bench.results import Result, gather, rows, write_csv
from caafp_app.bench.tables import by_case, comparison, latex, markdown
from caafp_app.runs.files import write_atomic

OF_A_BENCH = {
    "accuracy-by-megabytes": draw_cost,
    "accuracy-by-round": draw_rounds,
    "accuracy-by-client": draw_clients,
}
OF_A_RUN = {"dendrogram": draw_dendrogram, "mask-overlap": draw_masks, "density": draw_density}
"""Drawn for the first seed of each case."""


def write_tables(plan: BenchPlan, folder: BenchFolder) -> list[Result]:
    """Write ``results.csv``, ``table.md``, ``table.tex`` and ``paired.md`` of what is finished."""
    results = gather(plan, folder)
    write_csv(folder.path / "results.csv", rows(results))
    for name, text in (
        ("table.md", markdown(plan.name, results)),
        ("table.tex", latex(plan.name, results)),
        ("paired.md", comparison(plan.name, results)),
    ):
        write_atomic(folder.path / name, text.encode())
    return results


def write_figures(folder: BenchFolder, results: Sequence[Result]) -> list[Path]:
    """Draw into ``figures/`` what the finished runs allow, and return the files."""
    if not results:
        return []
    drawn: dict[str, Any] = {name: draw(results) for name, draw in OF_A_BENCH.items()}
    drawn |= {f"sweep-{key}": draw_sweep(results, key) for key in swept(results)}
    for case, runs in by_case(results).items():
        drawn |= {f"{name}-{case}": draw(runs[0].run) for name, draw in OF_A_RUN.items()}
    return [
        path
        for name, figure in drawn.items()
        if figure is not None
        for path in save(figure, folder.path / "figures" / name)
    ]
