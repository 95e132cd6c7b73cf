"""The accuracy of every client: a box for each case, and the clients as points beside it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from caafp_app.bench.figures.style import plotting, short, width
from caafp_app.bench.results import Result
from caafp_app.bench.tables import by_case
from caafp_app.runs.palette import COLOURS


def draw_clients(results: Sequence[Result]) -> Any | None:
    """Draw personal accuracies, each client's mean over the seeds; None if no run knows any."""
    groups = {name: accuracies(runs) for name, runs in by_case(results).items()}
    groups = {name: values for name, values in groups.items() if values}
    if not groups:
        return None
    plt = plotting()
    figure, axes = plt.subplots(figsize=(width(len(groups)), 4.4))
    places = np.arange(len(groups))
    axes.boxplot(
        list(groups.values()),
        positions=places,
        widths=0.5,
        showfliers=False,
        medianprops={"color": "black"},
        manage_ticks=False,
    )
    rng = np.random.default_rng(0)
    for i, values in enumerate(groups.values()):
        offsets = rng.uniform(-0.18, 0.18, len(values))
        axes.scatter(
            places[i] + offsets, values, s=9, alpha=0.6, color=COLOURS[i % len(COLOURS)], zorder=3
        )
    axes.set_xticks(places, short(list(groups)), rotation=30, ha="right")
    axes.set_ylabel("personal accuracy of each client, %")
    axes.grid(visible=False, axis="x")
    return figure


def accuracies(runs: Sequence[Result]) -> list[float]:
    """Return each client's accuracy in %, mean over the runs that know it, by label."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for client in run.run.clients:
            if client.personal_accuracy is not None:
                found.setdefault(client.label, []).append(100 * client.personal_accuracy)
    return [float(np.mean(found[label])) for label in sorted(found)]
