"""The parts of the page that tell of one run."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from caafp_app.report.html import Cell, Row, figure, number, pairs, paragraph, section, table
from caafp_app.report.svg import Chart, Line, draw, matrix
from caafp_app.runs.masks import jaccard
from caafp_app.runs.reading import RunFiles
from caafp_app.runs.records import BETWEEN_ROUNDS

_MB = 1e-6
_MOST_SHOWN = 60
"""Clients whose distances are drawn as a matrix."""


def tell(run: RunFiles) -> str:
    """Return all that is to be said of a run."""
    parts: tuple[Callable[[RunFiles], str], ...] = (
        outcome,
        curves,
        clients,
        clusters,
        masks,
        traffic,
        plan,
        settings,
    )
    of = run.settings
    told = f"{of.get('strategy')} on {of.get('dataset')}, seed {of.get('seed')}; from {run.path}"
    return paragraph(told) + "".join(part(run) for part in parts)


def outcome(run: RunFiles) -> str:
    """Return the summary in a few numbers."""
    if not run.finished:
        ended = max((int(record["round"]) for record in run.rounds), default=0)
        return section("Outcome", paragraph(f"The run has no end: {ended} rounds are here."))
    accuracy, summary = run.summary["accuracy"], run.summary
    rows: list[Row] = [
        [
            f"{model} models",
            *(
                number(accuracy[model].get(key), 2, 100.0)
                for key in ("mean", "std", "min", "worst_tenth")
            ),
            number(accuracy[model].get("clients"), 0),
        ]
        for model in ("cluster", "personal")
    ]
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
                ("rounds", summary["rounds"]),
                ("sent", f"{traffic['down'] * _MB:.2f} MB down, {traffic['up'] * _MB:.2f} MB up"),
                ("papers' formula", f"{traffic['formula_total'] * _MB:.2f} MB"),
                ("time", f"{seconds['total']:.0f} s, of it rounds {seconds['rounds']:.0f} s"),
            ]
        ),
    )


def curves(run: RunFiles) -> str:
    """Return accuracy, loss, density and bytes by round."""
    rounds = [record for record in run.rounds if record["phase"] not in BETWEEN_ROUNDS]
    scored = [record for record in run.rounds if record["phase"] == "evaluate"]
    spans = phases(run)

    def line(name: str, records: list[dict[str, Any]], key: str, times: float = 1.0) -> Line:
        known = [record for record in records if record.get(key) is not None]
        return Line(name, [(record["round"], times * record[key]) for record in known])

    numbers = sorted({key for record in rounds for key in record.get("density") or {}}, key=int)
    densities = [
        Line(
            "all" if key == "-1" else f"cluster {key}",
            [(r["round"], r["density"][key]) for r in rounds if key in r["density"]],
            steps=True,
        )
        for key in numbers
    ]
    charts = (
        Chart(
            [
                line("the round's clients", rounds, "accuracy", 100.0),
                line("all clients", scored, "accuracy", 100.0),
            ],
            "accuracy, %",
            spans=spans,
        ),
        Chart([line("the round's clients", rounds, "loss")], "loss", low=0.0, spans=spans),
        Chart(densities, "density", low=0.0, high=1.0, spans=spans),
        Chart(
            [line("down", rounds, "bytes_down", _MB), line("up", rounds, "bytes_up", _MB)],
            "MB in a round",
            low=0.0,
            spans=spans,
        ),
    )
    captions = (
        "Of the model that was received, before it was trained on: the state before the round.",
        "The same.",
        "Active share of the prunable weights at the end of the round.",
        "All messages of the round itself; what is between rounds is in the table of bytes.",
    )
    return section(
        "Rounds",
        *(figure(draw(chart), text) for chart, text in zip(charts, captions, strict=True)),
    )


def phases(run: RunFiles) -> list[tuple[float, str]]:
    """Return the first round of each phase of the plan."""
    first: dict[str, float] = {}
    for entry in run.plan.get("rounds", []):
        first.setdefault(str(entry["phase"]), float(entry["round"]))
    return [(number, name) for name, number in first.items()] if len(first) > 1 else []


def clients(run: RunFiles) -> str:
    """Return the table of clients, sorted by a click."""
    if not run.clients:
        return ""
    heads = ["client", "cluster", "train", "held out", "cluster model %", "personal model %"]
    heads += ["gain", "cluster loss", "personal loss", "sparsity"]
    rows: list[Row] = []
    for client in run.clients:
        before, after = client.cluster_accuracy, client.personal_accuracy
        gain = None if before is None or after is None else after - before
        rows.append(
            [
                Cell(client.label),
                number(client.cluster, 0),
                number(client.examples, 0),
                number(client.test_examples, 0),
                number(before, 2, 100.0, shade=True),
                number(after, 2, 100.0, shade=True),
                number(gain, 2, 100.0),
                number(client.cluster_loss, 3),
                number(client.personal_loss, 3),
                number(client.personal_sparsity, 4),
            ]
        )
    return section(
        "Clients",
        paragraph("Click on a head to sort by it. train and held out are numbers of examples."),
        table(heads, rows, sortable=True),
    )


def clusters(run: RunFiles) -> str:
    """Return the clusters, and how far apart the clients' updates are."""
    found = run.clusters.get("clusters", {})
    if not found:
        return ""
    rows: list[Row] = []
    for name, cluster in sorted(found.items(), key=lambda item: int(item[0])):
        members = [client for client in run.clients if client.label in set(cluster["members"])]
        rows.append(
            [
                Cell(name, float(name)),
                number(len(cluster["members"]), 0),
                number(cluster.get("examples"), 0),
                number(_mean([client.cluster_accuracy for client in members]), 2, 100.0),
                number(_mean([client.personal_accuracy for client in members]), 2, 100.0),
                ", ".join(map(str, cluster["members"])),
            ]
        )
    heads = ["cluster", "clients", "examples", "cluster model %", "personal models %", "members"]
    return section(
        "Clusters",
        paragraph(str(run.clusters.get("note") or "")),
        table(heads, rows, sortable=True),
        _distances(run, found),
    )


def _distances(run: RunFiles, found: Mapping[str, Any]) -> str:
    kept = run.distances()
    if kept is None or len(kept[0]) > _MOST_SHOWN:
        return ""
    labels, values = kept
    cluster_of = {label: int(name) for name, c in found.items() for label in c["members"]}
    order = sorted(range(len(labels)), key=lambda i: (cluster_of.get(labels[i], -1), labels[i]))
    return figure(
        matrix(
            values[np.ix_(order, order)].tolist(), [labels[i] for i in order], "cosine distance"
        ),
        "Cosine distances between the clients' updates, cluster by cluster; light is near.",
    )


def masks(run: RunFiles) -> str:
    """Return densities by cluster and layer, and what the masks have in common."""
    last: dict[str, dict[str, float]] = {}
    for record in run.rounds:
        last = record.get("layer_density") or last
    layers = list(next(iter(last.values()), {}))
    rows: list[Row] = [
        ["all" if name == "-1" else name, *(number(cluster.get(x), 4, 1.0, True) for x in layers)]
        for name, cluster in sorted(last.items(), key=lambda item: int(item[0]))
    ]
    kept = run.masks()
    drawing = ""
    if len(kept) > 1 and len({mask.size for mask in kept.values()}) == 1:
        names = [f"cluster {key}" for key in kept]
        drawing = figure(
            matrix(jaccard(list(kept.values())).tolist(), names, "overlap"),
            "Weights active in both masks over those active in either.",
        )
    return section("Masks", table(["density of", *layers], rows) if layers else "", drawing)


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


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{100 * value:.2f} %"


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
