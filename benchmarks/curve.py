"""Accuracy against bytes: settings run by ``caafp run`` over seeds, as table and figure.

    python -m benchmarks.curve --data-dir PATH            # all points, seed 42
    python -m benchmarks.curve --data-dir PATH --point lean --seeds 42,123,456
    python -m benchmarks.curve --plot-only

Finished runs are kept in the JSON file and not repeated: a stopped benchmark goes on where it was.
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, pstdev
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

LEAN = ["lean-uci", "finetune-epochs=25"]
POINTS: dict[str, list[str]] = {
    "paper": ["paper-uci", "finetune-epochs=25"],
    "paper, float16": [
        "paper-uci",
        "finetune-epochs=25",
        *("down-dtype=float16", "up-dtype=float16", "rest-dtype=float16"),
    ],
    "paper, int8": [
        "paper-uci",
        "finetune-epochs=25",
        *("down-dtype=int8", "up-dtype=int8", "rest-dtype=float16"),
    ],
    "sparse 70 %": [*LEAN, "initial-sparsity=0.7", "sparsity=0.7"],
    "sparse 80 %": [*LEAN, "initial-sparsity=0.8", "sparsity=0.8"],
    "lean": LEAN,
    "leanest": [*LEAN, "initial-sparsity=0.95", "sparsity=0.95"],
}
AUTHORS = {"megabytes": 265.6 * 1.048576, "accuracy": 95.40}
"""The authors' code, seed 42, 25 fine-tuning epochs, mask put back; bytes by their formula."""

app = typer.Typer(add_completion=False)


@app.command()
def main(
    data_dir: Annotated[str, typer.Option(help="UCI HAR: archive or folder.")] = "",
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "42",
    point: Annotated[list[str] | None, typer.Option(help="Only these; see POINTS.")] = None,
    json_path: Annotated[Path, typer.Option("--json")] = Path("curve.json"),
    figure: Annotated[Path, typer.Option(help="Without ending; .png and .svg are written.")] = Path(
        "curve"
    ),
    plot_only: Annotated[bool, typer.Option("--plot-only")] = False,
) -> None:
    """Run what is missing, then print the table and draw the figure."""
    results: list[dict[str, Any]] = json.loads(json_path.read_text()) if json_path.exists() else []
    done = {(row["point"], row["seed"]) for row in results}
    for name in [] if plot_only else (point or list(POINTS)):
        if name not in POINTS:
            raise typer.BadParameter(f"unknown point {name!r}; expected one of {', '.join(POINTS)}")
        for seed in (int(part) for part in seeds.split(",")):
            if (name, seed) not in done:
                results.append(_run(name, seed, data_dir))
                json_path.write_text(json.dumps(results, indent=2) + "\n")
    Console().print(_table(results))
    _draw(results, figure)


def _run(name: str, seed: int, data_dir: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "caafp_app.cli", "run", *POINTS[name], f"seed={seed}"]
    command += [f"data-dir={data_dir}"] if data_dir else []
    finished = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True, check=True)
    folder = Path(finished.stdout.strip().splitlines()[-1])
    summary = json.loads((folder / "summary.json").read_text())
    return {"point": name, "seed": seed, "settings": POINTS[name], "summary": summary}


def _points(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over seeds of each point, by megabytes from most to least."""
    rows = []
    for name in dict.fromkeys(row["point"] for row in results):
        found = [row["summary"] for row in results if row["point"] == name]
        personal = [100 * s["accuracy"]["personal"]["mean"] for s in found]
        rows.append(
            {
                "point": name,
                "seeds": len(found),
                "megabytes": mean(s["bytes"]["total"] / 1e6 for s in found),
                "personal": mean(personal),
                "deviation": pstdev(personal),
                "spread": mean(100 * s["accuracy"]["personal"]["std"] for s in found),
                "cluster": mean(100 * s["accuracy"]["cluster"]["mean"] for s in found),
                "sparsity": min(s["sparsity"]["personal_min"] for s in found),
                "seconds": mean(s["seconds"]["rounds"] for s in found),
            }
        )
    return sorted(rows, key=lambda row: -row["megabytes"])


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table(title="Personal accuracy against bytes, mean over seeds")
    columns = ("point", "seeds", "MB", "personal %", "+-", "spread", "cluster %", "sparsity", "s")
    for column in columns:
        table.add_column(column, justify="left" if column == "point" else "right")
    for row in _points(results):
        table.add_row(
            row["point"],
            str(row["seeds"]),
            f"{row['megabytes']:.1f}",
            f"{row['personal']:.2f}",
            f"{row['deviation']:.2f}",
            f"{row['spread']:.2f}",
            f"{row['cluster']:.2f}",
            f"{row['sparsity']:.3f}",
            f"{row['seconds']:.0f}",
        )
    return table


def _draw(results: list[dict[str, Any]], figure: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = _points(results)
    drawing, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    axes.plot(
        [row["megabytes"] for row in rows],
        [row["personal"] for row in rows],
        "o-",
        color="#0072B2",
        label="caafp_app, bytes counted from messages",
    )
    for number, row in enumerate(rows):
        # In turns above and below: neighbours may be near one another.
        axes.annotate(
            row["point"],
            (row["megabytes"], row["personal"]),
            textcoords="offset points",
            xytext=(0, -15 if number % 2 else 8),
            ha="center",
            fontsize=8,
        )
    axes.plot(
        AUTHORS["megabytes"],
        AUTHORS["accuracy"],
        "s",
        color="#D55E00",
        label="authors' code, mask put back, bytes by formula",
    )
    axes.set_xscale("log")
    axes.set_xlabel("MB sent in the whole run, both directions (log scale)")
    axes.set_ylabel("personal accuracy, % (mean over 30 clients)")
    axes.grid(visible=True, alpha=0.3)
    axes.margins(x=0.08, y=0.12)
    axes.legend(loc="center", bbox_to_anchor=(0.4, 0.3), fontsize=8)
    for ending in (".png", ".svg"):
        drawing.savefig(figure.with_suffix(ending), dpi=150)
    plt.close(drawing)


if __name__ == "__main__":
    app()
