"""The whole page: one run, or several, with a table and curves that compare them."""

from collections.abc import Sequence
from functools import partial
from html import escape
from importlib.resources import files

from caafp_app.report.html import Cell, figure, number, section, table, whole
from caafp_app.report.rounds import accuracy_line
from caafp_app.report.run import tell
from caafp_app.report.svg import draw
from caafp_app.runs.reading import RunFiles

# The page asks nobody for anything, and a browser is told so.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def build_page(runs: Sequence[RunFiles]) -> str:
    """Return a page of HTML that holds all it needs, of one run at least."""
    names = run_names(runs)
    title = f"caafp: {names[0]}" if len(runs) == 1 else f"caafp: {len(runs)} runs"
    style = (files("caafp_app.report") / "page.css").read_text(encoding="utf-8")
    script = (files("caafp_app.report") / "page.js").read_text(encoding="utf-8")
    body = [f"<h1>{escape(title)}</h1>"]
    if len(runs) > 1:
        body.append(whole("Side by side", partial(_compare, runs, names)))
    body += [
        f'<article id="run-{i}"><h2>{escape(name)}</h2>{tell(run)}</article>'
        for i, (run, name) in enumerate(zip(runs, names, strict=True))
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # A browser asks for an icon where none is named.
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{''.join(body)}</main><script>{script}</script></body></html>\n"
    )


def run_names(runs: Sequence[RunFiles]) -> list[str]:
    """Return the folders' names; with as many parents as it takes to tell them apart."""
    for depth in range(1, 8):
        names = ["/".join(run.path.parts[-depth:]) for run in runs]
        if len(set(names)) == len(names):
            return names
    return [str(run.path) for run in runs]


def _compare(runs: Sequence[RunFiles], names: Sequence[str]) -> str:
    heads = ["run", "strategy", "data", "seed", "personal %", "std", "cluster %", "sparsity"]
    heads += ["MB", "seconds"]
    rows: list[list[Cell | str]] = []
    lines = []
    for run, name in zip(runs, names, strict=True):
        end, of = run.summary, run.settings
        row: list[Cell | str] = [name, str(of.get("strategy", "")), str(of.get("dataset", ""))]
        row.append(number(of.get("seed"), 0))
        if run.finished:
            personal, cluster = end["accuracy"]["personal"], end["accuracy"]["cluster"]
            shares = (personal["mean"], personal["std"], cluster["mean"])
            row += [
                *(number(share, 2, 100.0) for share in shares),
                number(end["sparsity"]["personal_min"], 4),
                number(end["bytes"]["total"], 2, 1e-6),
                number(end["seconds"]["total"], 0),
            ]
        else:
            row += [number(None)] * 6
        rows.append(row)
        lines.append(accuracy_line(name, run))
    return section(
        "Side by side",
        table(heads, rows, sortable=True),
        figure(draw(lines, "accuracy, %"), "Of the clients of each round, as received."),
    )
