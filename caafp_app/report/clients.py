"""What the page tells of a run's clients, of the clusters they form, and of the clusters' masks."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from caafp_app.report.html import Cell, Row, figure, number, paragraph, section, table
from caafp_app.report.svg import matrix
from caafp_app.runs.masks import jaccard
from caafp_app.runs.reading import RunFiles

_MOST_SHOWN = 60
"""Clients whose distances are drawn as a matrix."""


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
                number(client.cluster_f1, 3),
                number(client.personal_f1, 3),
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
        _timeline(run),
        _distances(run, found),
    )


def _timeline(run: RunFiles) -> str:
    """Return what of the groups changed, round by round."""
    changes = run.clusters.get("changes", [])
    rows: list[Row] = [
        [
            number(one["round"], 0),
            str(one["what"]),
            f"{one['before']} to {one['after']}",
            ", ".join(map(str, one["clients"])),
            str(one["why"]),
        ]
        for one in changes
    ]
    if not rows:
        return ""
    heads = ["before round", "change", "cluster", "clients", "why"]
    return paragraph("Timeline of the groups, after they were formed:") + table(heads, rows)


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


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
