"""Figures of a whole bench: each client's accuracy, accuracy by round, and by megabytes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from caafp_app.bench.figures.style import drawing, labelled, look, short, width
from caafp_app.bench.results import Result
from caafp_app.bench.statistics import mean_of
from caafp_app.bench.tables import by_case
from caafp_app.runs.palette import COLOURS
from caafp_app.runs.reading import RunFiles
from caafp_app.runs.records import BETWEEN_ROUNDS


def draw_clients(results: Sequence[Result]) -> Any | None:
    """Draw personal accuracies, each client's mean over the seeds; None if no run knows any."""
    groups = {name: accuracies(runs) for name, runs in by_case(results).items()}
    groups = {name: values for name, values in groups.items() if values}
    if not groups:
        return None
    figure, axes = drawing(width(len(groups)), 4.4)
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


def draw_rounds(results: Sequence[Result]) -> Any | None:
    """Draw a line for each case: see `draw_lines`."""
    cases = by_case(results).items()
    return draw_lines([(name, [run.run for run in runs]) for name, runs in cases])


def draw_lines(cases: Sequence[tuple[str, Sequence[RunFiles]]]) -> Any | None:
    """Draw accuracy by round: the mean over a case's runs with a band of a standard deviation.

    Where all runs evaluated all clients now and then (``evaluate-every``) these scores are drawn;
    else those of the clients of each round, of the model that they received.
    """
    evaluated = all(accuracy_by_round(run, whole=True) for _, runs in cases for run in runs)
    figure, axes = drawing(7.5, 4.4)
    drawn = 0
    for i, (name, runs) in enumerate(cases):
        series = [accuracy_by_round(run, whole=evaluated) for run in runs]
        numbers = sorted(set.intersection(*(set(one) for one in series)) if series else set())
        if not numbers:
            continue
        values = 100 * np.array([[one[number] for number in numbers] for one in series])
        mean, style = values.mean(axis=0), look(i)
        every = max(1, len(numbers) // 10)
        axes.plot(numbers, mean, **style, markevery=every, markersize=4, label=name)
        if len(runs) > 1:
            deviation = values.std(axis=0, ddof=1)
            axes.fill_between(
                numbers, mean - deviation, mean + deviation, color=style["color"], alpha=0.12
            )
        drawn += 1
    if not drawn:
        return None
    of = "all clients" if evaluated else "the round's clients, before their training"
    return labelled(figure, "round", f"accuracy on {of}, %")


def accuracy_by_round(run: RunFiles, *, whole: bool) -> dict[int, float]:
    """Return accuracies by round: of all clients (`whole`), or of the clients of each round."""
    return {
        int(record["round"]): float(record["accuracy"])
        for record in run.rounds
        if record.get("accuracy") is not None
        and (record["phase"] == "evaluate" if whole else record["phase"] not in BETWEEN_ROUNDS)
    }


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
    from matplotlib.ticker import LogFormatter

    figure, axes = drawing(7.0, 4.4)
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
    axes.margins(0.1)
    return labelled(figure, "MB of all messages of a run (log scale)", "personal accuracy, %")


def _bar(deviation: float) -> float | None:
    return None if deviation != deviation else deviation
