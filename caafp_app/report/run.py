"""What the page tells of one run: all parts in order; what came of it, its cost, its plan."""

from collections.abc import Callable
from functools import partial

from caafp_app.report.clients import classes, clients, clusters, masks
from caafp_app.report.html import Cell, Row, number, pairs, paragraph, section, table, whole
from caafp_app.report.rounds import curves
from caafp_app.runs.reading import RunFiles

_MB = 1e-6


def tell(run: RunFiles) -> str:
    """Return all that is to be said of a run."""
    parts: list[Callable[[RunFiles], str]] = [outcome, curves, clients, classes, clusters, masks]
    parts += [traffic, plan, settings]
    of = run.settings
    told = f"{of.get('strategy')} on {of.get('dataset')}, seed {of.get('seed')}; from {run.path}"
    return paragraph(told) + "".join(
        whole(part.__name__.capitalize(), partial(part, run)) for part in parts
    )


def outcome(run: RunFiles) -> str:
    """Return the summary in a few numbers."""
    if not run.finished:
        ended = max((int(record["round"]) for record in run.rounds), default=0)
        return section("Outcome", paragraph(f"The run has no end: {ended} rounds are here."))
    accuracy, summary = run.summary["accuracy"], run.summary
    figures = {f"{model} models": accuracy[model] for model in ("cluster", "personal")}
    if "unseen" in accuracy:  # where users were kept out
        figures["unseen users"] = accuracy["unseen"]
    for model, found in summary.get("macro_f1", {}).items():  # older runs have none
        if found.get("clients"):
            figures[f"macro-F1, {model} models"] = found
    keys = ("mean", "std", "min", "worst_tenth")
    rows: list[Row] = [
        [name, *(number(one.get(key), 2, 100.0) for key in keys), number(one.get("clients"), 0)]
        for name, one in figures.items()
    ]
    seconds, traffic = summary["seconds"], summary["bytes"]
    facts: list[tuple[str, object]] = [
        ("sparsity of personal models, least", _share(summary["sparsity"]["personal_min"])),
        ("rounds", summary["rounds"]),
        ("sent", f"{traffic['down'] * _MB:.2f} MB down, {traffic['up'] * _MB:.2f} MB up"),
        ("papers' formula", f"{traffic['formula_total'] * _MB:.2f} MB"),
        ("time", f"{seconds['total']:.0f} s, of it rounds {seconds['rounds']:.0f} s"),
    ]
    if (epochs := summary.get("finetune_epochs")) is not None:
        facts.insert(1, ("epochs of fine-tuning, median of clients", f"{epochs:g}"))
    split = accuracy.get("split", "test")
    return section(
        "Outcome",
        table(["accuracy, %", "mean", "std", "min", "worst tenth", "clients"], rows),
        paragraph(
            f"On each client's {split} data; cluster models are as they came, personal ones "
            "fine-tuned. std is over clients, worst tenth the mean of the lowest tenth of them."
        ),
        pairs(facts),
    )


def traffic(run: RunFiles) -> str:
    """Return bytes by kind and by phase."""
    if not run.finished:
        return ""
    counted = run.summary["bytes"]
    kinds, total = counted["by_kind"], max(counted["total"], 1)

    def row(name: str, down: int, up: int) -> Row:
        return [name, *(Cell(f"{n * _MB:.3f}", float(n), n / total) for n in (down, up))]

    names = sorted({*kinds["down"], *kinds["up"]})
    by_kind = [row(name, kinds["down"].get(name, 0), kinds["up"].get(name, 0)) for name in names]
    by_phase = [row(name, one["down"], one["up"]) for name, one in counted["by_phase"].items()]
    return section(
        "Bytes",
        paragraph("Counted from the messages themselves; bars are shares of all bytes."),
        table(["kind", "MB down", "MB up"], by_kind, sortable=True),
        table(["phase", "MB down", "MB up"], by_phase, sortable=True),
    )


def plan(run: RunFiles) -> str:
    """Return the plan of the rounds."""
    facts = run.plan.get("facts", {})
    rows: list[Row] = [
        [
            number(entry["round"], 0),
            str(entry["phase"]),
            "new masks" if entry.get("mask_update") else "",
            number(entry.get("sparsity"), 4),
        ]
        for entry in run.plan.get("rounds", [])
    ]
    return section(
        "Plan",
        pairs(facts.items()),
        table(["round", "phase", "at its end", "sparsity from then"], rows) if rows else "",
        folded=True,
    )


def settings(run: RunFiles) -> str:
    """Return every setting."""
    return section("Settings", pairs(run.settings.items()), folded=True)


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{100 * value:.2f} %"
