"""The tables that people read: Markdown and LaTeX, mean +- standard deviation over seeds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from caafp_app.bench.results import Result
from caafp_app.bench.statistics import Mean, Paired, by_client, by_seed, mean_of, paired


@dataclass(frozen=True)
class Column:
    """A column of the table: its title with the unit, and where its numbers come from.

    `source` is a column of ``results.csv``, taken `times` a factor; `best` is ``high`` or ``low``.
    """

    title: str
    source: str
    times: float = 1.0
    digits: int = 2
    best: str = ""


TABLE = (
    Column("accuracy %", "personal-accuracy", 100.0, 2, "high"),
    Column("spread", "personal-std", 100.0, 2, "low"),
    Column("worst tenth %", "personal-worst-tenth", 100.0, 2, "high"),
    Column("0 epochs %", "cluster-accuracy", 100.0, 2, "high"),
    Column("its spread", "cluster-std", 100.0, 2, "low"),
    Column("sparsity %", "sparsity-min", 100.0, 1),
    Column("MB down", "mb-down", 1.0, 1, "low"),
    Column("MB up", "mb-up", 1.0, 1, "low"),
    Column("seconds", "seconds", 1.0, 0),
)
_COMPARED = (
    Column("accuracy", "personal-accuracy", 100.0),
    Column("spread", "personal-std", 100.0),
    Column("worst tenth", "personal-worst-tenth", 100.0),
    Column("accuracy with 0 epochs", "cluster-accuracy", 100.0),
)
_LEGEND = (
    "Mean and standard deviation over seeds (n - 1). accuracy: mean over clients of the personal "
    "model's accuracy on the client's held-out data ({split}); spread: standard deviation over "
    "clients; worst tenth: mean of the lowest tenth of the clients; 0 epochs: the model before "
    "fine-tuning; sparsity: the least of all clients, counted in the personal model; MB: 10^6 "
    "bytes of the messages themselves, all rounds; seconds: wall time of the run without the "
    "start of its processes."
)


def by_case(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Group the runs by case, in their order."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.case.name, []).append(result)
    return groups


def markdown(title: str, results: Sequence[Result]) -> str:
    """Return the table as Markdown; the best mean of a column is bold where there is a choice."""
    if not results:
        return f"# {title}\n\nNo run is finished.\n"
    titles = ["case", "seeds", *(column.title for column in TABLE)]
    lines = [f"# {title}", "", _row(titles), _row(["---", *["---:"] * (len(titles) - 1)])]
    lines += [_row(row) for row in _rows(results, "±", "**{}**")]
    return "\n".join([*lines, "", _LEGEND.format(split=_split(results)), ""])


def latex(title: str, results: Sequence[Result]) -> str:
    """Return the table as a LaTeX ``table`` (it needs the package booktabs)."""
    titles = ["case", "seeds", *(column.title for column in TABLE)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(title)}. {_escaped(_LEGEND.format(split=_split(results)))}}}",
        rf"\begin{{tabular}}{{lr{'r' * len(TABLE)}}}",
        r"\toprule",
        " & ".join(map(_escaped, titles)) + r" \\",
        r"\midrule",
    ]
    for name, count, *found in _rows(results, r"\pm", r"\mathbf{{{}}}"):
        shown = [_escaped(name), count, *(f"${cell}$" if cell else "" for cell in found)]
        lines.append(" & ".join(shown) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def comparison(title: str, results: Sequence[Result]) -> str:
    """Return every case's paired differences from the one that it is compared with, as Markdown."""
    groups = by_case(results)
    seeds: list[list[str]] = []
    clients: list[list[str]] = []
    for name, runs in groups.items():
        against = runs[0].case.against
        if against in ("", name) or against not in groups:
            continue
        theirs = groups[against]
        for column in _COMPARED:
            found = paired(by_seed(_values(runs, column), _values(theirs, column)))
            if found is not None:
                seeds.append([name, against, column.title, *_paired_cells(found)])
        found = paired(by_client(_accuracies(runs), _accuracies(theirs)))
        if found is not None:
            clients.append([name, against, *_paired_cells(found)])
    if not seeds:
        return f"# {title}: paired comparison\n\nNo two cases to compare have a seed in common.\n"
    tail = ["difference, points", "95 % interval", "n", "above 0"]
    lines = [
        f"# {title}: paired comparison",
        "",
        "Case minus the one it is compared with, in percentage points, runs of the same seed "
        "paired. The interval is Student's t; one that leaves 0 out is bold. n is the number of "
        "seeds: it says how far another seed may move the difference on these very clients.",
        "",
        _row(["case", "against", "of", *tail]),
        _row(["---"] * 3 + ["---:"] * 4),
        *map(_row, seeds),
        "",
        "The same by client: each client's difference of personal accuracy is averaged over the "
        "seeds first, so n is the number of clients. It says how far other people of this kind "
        "may move the difference. Clients are trained together, so that they are not quite "
        "independent and the interval is a guide.",
        "",
        _row(["case", "against", *tail]),
        _row(["---"] * 2 + ["---:"] * 4),
        *map(_row, clients),
        "",
    ]
    return "\n".join(lines)


def _rows(results: Sequence[Result], sign: str, bold: str) -> Iterator[list[str]]:
    """Yield the name of each case, its number of seeds, and its cells, the best ones bold."""
    groups = by_case(results)
    columns = []
    for column in TABLE:
        means = {name: mean_of([*_values(runs, column).values()]) for name, runs in groups.items()}
        columns.append((column.digits, means, _best(column, means)))
    for name, runs in groups.items():
        found = [
            _shown(means[name], digits, sign, bold if name == best else "{}")
            for digits, means, best in columns
        ]
        yield [name, str(len(runs)), *found]


def _best(column: Column, means: Mapping[str, Mean | None]) -> str:
    """Return the case of the best mean; empty where there is no best, or no choice."""
    known = {name: found.mean for name, found in means.items() if found is not None}
    if not column.best or len(known) < 2:
        return ""
    return (max if column.best == "high" else min)(known, key=lambda name: known[name])


def _values(runs: Sequence[Result], column: Column) -> dict[int, float | None]:
    values = {run.seed: run.value(column.source) for run in runs}
    return {seed: None if value is None else column.times * value for seed, value in values.items()}


def _accuracies(runs: Sequence[Result]) -> dict[int, dict[str, float]]:
    """Return personal accuracy in %, by seed and client."""
    return {
        run.seed: {
            client.label: 100.0 * client.personal_accuracy
            for client in run.run.clients
            if client.personal_accuracy is not None
        }
        for run in runs
    }


def _shown(mean: Mean | None, digits: int, sign: str, emphasis: str) -> str:
    if mean is None:
        return ""
    text = emphasis.format(f"{mean.mean:.{digits}f}")
    return text if math.isnan(mean.deviation) else f"{text} {sign} {mean.deviation:.{digits}f}"


def _paired_cells(found: Paired) -> list[str]:
    interval = "-" if found.n == 1 else f"{found.low:+.2f} to {found.high:+.2f}"
    if found.clear:
        interval = f"**{interval}**"
    return [f"{found.mean:+.2f}", interval, str(found.n), f"{found.wins} of {found.n}"]


def _split(results: Sequence[Result]) -> str:
    return ", ".join(
        dict.fromkeys(str(r.run.summary["accuracy"].get("split", "test")) for r in results)
    )


def _row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _escaped(text: str) -> str:
    for sign in "&%$#_{}":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("^", r"\^{}").replace("~", r"\~{}")
