"""What users kept out of training are given, by rule, mean over the runs of each case.

``caafp bench unseen --output OUT`` makes the runs; ``python -m benchmarks.unseen OUT/runs`` reads
them.
"""

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def main(runs: Annotated[Path, typer.Argument(help="Folder of CASE/SEED/summary.json.")]) -> None:
    """Print a row for each case: the rules, the oracle, and the worst draw of the general model."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for path in sorted(runs.glob("*/*/summary.json")):
        by_rule = json.loads(path.read_text(encoding="utf-8"))["accuracy"].get("unseen_by_rule")
        if by_rule:
            found[path.parent.parent.name].append(by_rule)
    if not found:
        raise typer.BadParameter(f"expected runs with unseen-users below {runs}, found none")
    rules = list(next(iter(found.values()))[0])
    table = Table("case", "draws", *(f"{rule} %" for rule in rules), "general, worst draw %")
    for case, draws in sorted(found.items()):
        means = [f"{100 * mean(draw[rule] for draw in draws):.1f}" for rule in rules]
        worst = f"{100 * min(draw['general'] for draw in draws):.1f}"
        table.add_row(case, str(len(draws)), *means, worst)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
