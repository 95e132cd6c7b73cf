"""What the page tells of one run: all parts in order; what came of it, its cost, its plan."""

from collections.abc import Callable
from functools import partial

from caafp_app.report.classes import classes
from caafp_app.report.clients import clients, clusters, masks
from caafp_app.report.html import Cell, Row, number, pairs, paragraph, section, table, whole
from caafp_app.report.rounds import curves
from caafp_app.runs.reading import RunFiles

_MB = 1e-6


def tell(run: RunFiles) -> str:
    """Return all that is to be said of a run."""
    parts: tuple[Callable[[RunFiles], str], ...] = (
        outcome,
        curves,
        clients,
        classes,
        clusters,
        masks,
        traffic,
        plan,
        settings,
    )
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
    rows: list[Row] = [
        [
            "unseen users" if model == "unseen" else f"{model} models",
            *(
                number(accuracy[model].get(key), 2, 100.0)
                for key in ("mean", "std", "min", "worst_tenth")
            ),
            number(accuracy[model].get("clients"), 0),
        ]
        for model in ("cluster", "personal", "unseen")
        if model in accuracy  # unseen: where users were kept out
    ]
    for model, found in summary.get("macro_f1", {}).items():  # older runs have none
        if found.get("clients"):
            keys = ("mean", "std", "min", "worst_tenth")
            scores = (number(found.get(key), 2, 100.0) for key in keys)
            rows.append([f"macro-F1, {model} models", *scores, number(found["clients"], 0)])
    seconds, traffic = summary["seconds"], summary["bytes"]
    split = accuracy.get("split", "test")
    return section(
        "Outcome",
        table(["accuracy, %", "mean", "std", "min", "worst tenth", "clients"], rows),
        paragraph(
            f"On each client's {split} data; cluster models are as they came, personal ones "
            "fine-tuned. std is over clients, worst tenth the mean of the lowest tenth of them."
        ),
        pairs(
            [
                ("sparsity of personal models, least", _share(summary["sparsity"]["personal_min"])),
                *_epochs(summary.get("finetune_epochs")),
                ("rounds", summary["rounds"]),
                ("sent", f"{traffic['down'] * _MB:.2f} MB down, {traffic['up'] * _MB:.2f} MB up"),
                ("papers' formula", f"{traffic['formula_total'] * _MB:.2f} MB"),
                ("time", f"{seconds['total']:.0f} s, of it rounds {seconds['rounds']:.0f} s"),
            ]
        ),
    )


def traffic(run: RunFiles) -> str:
    """Return bytes by kind and by phase."""
    if not run.finished:
        return ""
    counted = run.summary["bytes"]
    kinds = counted["by_kind"]
    names = sorted({*kinds["down"], *kinds["up"]})
    total = max(counted["total"], 1)
    by_kind: list[Row] = [
        [name, *(_bytes(kinds[way].get(name, 0), total) for way in ("down", "up"))]
        for name in names
    ]
    by_phase: list[Row] = [
        [name, *(_bytes(phase[way], total) for way in ("down", "up"))]
        for name, phase in counted["by_phase"].items()
    ]
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


def _bytes(size: int, total: int) -> Cell:
    return Cell(f"{size * _MB:.3f}", float(size), size / total)


def _epochs(median: float | None) -> list[tuple[str, str]]:
    return [] if median is None else [("epochs of fine-tuning, median of clients", f"{median:g}")]


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{100 * value:.2f} %"
