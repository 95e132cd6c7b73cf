"""Accuracy against megabytes: what each case buys, and for how much."""

from collections.abc import Sequence
from typing import Any

from caafp_app.bench.figures.style import look, plotting
from caafp_app.bench.results import Result
from caafp_app.bench.statistics import mean_of
from caafp_app.bench.tables import by_case


def draw_cost(results: Sequence[Result]) -> Any | None:
    """Draw a point for each case, bars of a standard deviation over seeds; None without two."""
    points = []
    for name, runs in by_case(results).items():
        accuracy = mean_of([run.value("personal-accuracy") for run in runs])
        megabytes = mean_of([run.value("mb-total") for run in runs])
        if accuracy is not None and megabytes is not None and megabytes.mean > 0:
            points.append((name, megabytes, accuracy))
    if len(points) < 2:
        return None
    plt = plotting()
    from matplotlib.ticker import LogFormatter

    figure, axes = plt.subplots(figsize=(7.0, 4.4))
    for i, (name, megabytes, accuracy) in enumerate(points):
        axes.errorbar(
            megabytes.mean,
            100 * accuracy.mean,
            xerr=_bar(megabytes.deviation),
            yerr=_bar(100 * accuracy.deviation),
            **look(i) | {"linestyle": "none"},
            markersize=7,
            capsize=2,
            label=name,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    # Labels between the powers of ten, as many as have room: all in half a decade, few in two.
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.set_xlabel("MB of all messages of a run (log scale)")
    axes.set_ylabel("personal accuracy, %")
    axes.margins(0.1)
    figure.legend(loc="outside right center", fontsize=8)
    return figure


def _bar(deviation: float) -> float | None:
    return None if deviation != deviation else deviation
