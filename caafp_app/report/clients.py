"""What the page tells of a run's clients, their classes and clusters, and the clusters' masks."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from caafp_app.report.html import Cell, Row, figure, number, paragraph, section, table
from caafp_app.report.svg import matrix
from caafp_app.runs.reading import RunFiles, jaccard
from caafp_app.runs.summary import spread

_MOST_SHOWN = 60
"""Clients whose distances are drawn as a matrix, and classes whose confusion is."""


def clients(run: RunFiles) -> str:
    """Return the table of clients, sorted by a click."""
    if not run.clients:
        return ""
    heads = ["client", "cluster", "train", "held out", "cluster model %", "personal model %"]
    heads += ["gain", "cluster loss", "personal loss", "sparsity", "cluster F1", "personal F1"]
    heads += ["epochs"]
    rows: list[Row] = []
    for client in run.clients:
        before, after = client.cluster_accuracy, client.personal_accuracy
        gain = None if before is None or after is None else after - before
        counts = (client.cluster, client.examples, client.test_examples)
        rows.append(
            [
                client.label,
                *(number(count, 0) for count in counts),
                *(number(share, 2, 100.0, shade=True) for share in (before, after)),
                number(gain, 2, 100.0),
                *(number(loss, 3) for loss in (client.cluster_loss, client.personal_loss)),
                number(client.personal_sparsity, 4),
                *(number(f1, 3) for f1 in (client.cluster_f1, client.personal_f1)),
                number(client.finetune_epochs, 0),
            ]
        )
    return section(
        "Clients",
        paragraph(
            "Click on a head to sort by it. train and held out are numbers of examples; epochs are "
            "those of fine-tuning that a client has found best, where it looks for them."
        ),
        table(heads, rows, sortable=True),
    )


def classes(run: RunFiles) -> str:
    """Return the recall of each class, and what it is taken for, where clients have told counts."""
    told = run.summary.get("classes")
    if not told:
        return ""
    names = [str(name) for name in told["names"]]
    models = [model for model in ("cluster", "personal") if model in told]
    rows: list[Row] = []
    for k, name in enumerate(names):
        windows = sum(told[models[-1]]["confusion"][k])
        shares = (number(told[model]["recall"][k], 2, 100.0, shade=True) for model in models)
        rows.append([name, number(windows, 0), *shares])
    heads = ["class", "windows", *(f"{model} models, recall %" for model in models)]
    return section(
        "Classes",
        paragraph(
            "Recall is the share of a class's windows that a model knows: the mean over the "
            "clients that have the class. Below, windows by their class (rows) and the one that "
            "the models take them for (columns), summed over the clients."
        ),
        table(heads, rows, sortable=True),
        *(_confusion(model, names, told[model]["confusion"]) for model in models),
    )


def _confusion(model: str, names: list[str], counts: list[list[int]]) -> str:
    if len(names) > _MOST_SHOWN:
        return ""
    rows: list[Row] = [
        [name, *(Cell(str(count), float(count), count / max(sum(row), 1)) for count in row)]
        for name, row in zip(names, counts, strict=True)
    ]
    return table([f"{model} models", *names], rows)


def clusters(run: RunFiles) -> str:
    """Return the clusters, and how far apart the clients' updates are."""
    found = run.clusters.get("clusters", {})
    if not found:
        return ""
    rows: list[Row] = []
    for name, cluster in sorted(found.items(), key=lambda item: int(item[0])):
        members = [client for client in run.clients if client.label in set(cluster["members"])]
        common = spread(client.cluster_accuracy for client in members)
        personal = spread(client.personal_accuracy for client in members)
        rows.append(
            [
                Cell(name, float(name)),
                number(len(cluster["members"]), 0),
                number(cluster.get("examples"), 0),
                *(number(found["mean"], 2, 100.0) for found in (common, personal)),
                ", ".join(map(str, cluster["members"])),
            ]
        )
    heads = ["cluster", "clients", "examples", "cluster model %", "personal models %", "members"]
    return section(
        "Clusters",
        paragraph(str(run.clusters.get("note") or "")),
        table(heads, rows, sortable=True),
        _timeline(run),
        _distances(run, found),
    )


def _timeline(run: RunFiles) -> str:
    """Return what of the groups changed, round by round."""
    rows: list[Row] = []
    for one in run.clusters.get("changes", []):
        moved, who = f"{one['before']} to {one['after']}", ", ".join(map(str, one["clients"]))
        rows.append([number(one["round"], 0), str(one["what"]), moved, who, str(one["why"])])
    heads = ["before round", "change", "cluster", "clients", "why"]
    told = paragraph("Timeline of the groups, after they were formed:")
    return told + table(heads, rows) if rows else ""


def _distances(run: RunFiles, found: Mapping[str, Any]) -> str:
    kept = run.distances()
    if kept is None or len(kept[0]) > _MOST_SHOWN:
        return ""
    labels, values = kept
    cluster_of = {label: int(name) for name, c in found.items() for label in c["members"]}
    order = sorted(range(len(labels)), key=lambda i: (cluster_of.get(labels[i], -1), labels[i]))
    sorted_values = values[np.ix_(order, order)].tolist()
    return figure(
        matrix(sorted_values, [labels[i] for i in order], "cosine distance"),
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
