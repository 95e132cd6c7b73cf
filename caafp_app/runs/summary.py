"""The summary of a run: a few numbers, each over all clients or clusters."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from caafp_app.runs.records import RunReport


def build_summary(
    report: RunReport, *, settings: Mapping[str, object], rounds: int
) -> dict[str, Any]:
    """Build what ``summary.json`` holds.

    Every client counts alike in accuracies, whatever its number of examples, and every cluster
    that has members alike in the sparsity of clusters. Values that no client reported are None;
    ``finetune_epochs`` is the median of what clients found with ``finetune-epochs=auto``.
    """
    epochs = known(client.finetune_epochs for client in report.clients)
    clusters = [report.clusters[number] for number in sorted(report.clusters)]
    sparsities = known(client.personal_sparsity for client in report.clients)
    cluster_sparsities = [1.0 - cluster.density for cluster in clusters if cluster.members]
    return {
        "strategy": settings["strategy"],
        "dataset": settings["dataset"],
        "seed": settings["seed"],
        "rounds": rounds,
        "clients": len(report.clients),
        "clusters": [len(cluster.members) for cluster in clusters],
        "accuracy": {
            "split": report.split,
            "cluster": spread(client.cluster_accuracy for client in report.clients),
            "personal": spread(client.personal_accuracy for client in report.clients),
            **_unseen(report),
        },
        "macro_f1": {
            "cluster": spread(client.cluster_f1 for client in report.clients),
            "personal": spread(client.personal_f1 for client in report.clients),
        },
        **({"classes": report.classes.to_json()} if report.classes else {}),
        "finetune_epochs": float(np.median(epochs)) if epochs else None,
        "sparsity": {
            "personal_min": min(sparsities, default=None),
            "personal_mean": _mean(sparsities),
            "cluster_mean": _mean(cluster_sparsities),
        },
        "bytes": report.ledger.summary(),
        "seconds": dict(report.seconds),
    }


def _unseen(report: RunReport) -> dict[str, Any]:
    """Return the accuracy of users kept out, and its mean by rule; nothing where there are none."""
    if not report.unseen:
        return {}
    rules = [*report.unseen[0].chosen, "oracle"]
    return {
        "unseen": spread(one.given(one.rule) for one in report.unseen),
        "unseen_by_rule": {r: _mean([one.given(r) for one in report.unseen]) for r in rules},
        "unseen_users": [one.label for one in report.unseen],
    }


def spread(values: Iterable[float | None]) -> dict[str, float | int | None]:
    """Describe one value per client; None and NaN are left out, as nothing is known of those.

    Returns ``mean``; ``std`` over the population (divided by n, not n - 1); ``min``;
    ``worst_tenth``, the mean of the lowest ceil(n / 10) values; and ``clients``, n.
    """
    found = np.sort(np.array(known(values), dtype=np.float64))
    if not found.size:
        return {"mean": None, "std": None, "min": None, "worst_tenth": None, "clients": 0}
    tenth = -(-found.size // 10)
    return {
        "mean": float(found.mean()),
        "std": float(found.std()),
        "min": float(found[0]),
        "worst_tenth": float(found[:tenth].mean()),
        "clients": int(found.size),
    }


def known(values: Iterable[float | None]) -> list[float]:
    """Return the values that are neither None nor NaN."""
    return [float(value) for value in values if value is not None and not np.isnan(value)]


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
