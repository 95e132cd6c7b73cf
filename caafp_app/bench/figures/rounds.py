"""Accuracy by round."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from caafp_app.bench.figures.style import look, plotting
from caafp_app.bench.results import Result
from caafp_app.bench.tables import by_case
from caafp_app.runs.reading import RunFiles
from caafp_app.runs.records import BETWEEN_ROUNDS


def draw_rounds(results: Sequence[Result]) -> Any | None:
    """Draw a line for each case, the mean over seeds with a band of a standard deviation.

    Where all runs evaluated all clients now and then (``evaluate-every``) these scores are drawn;
    else those of the clients of each round, of the model that they received.
    """
    evaluated = bool(results) and all(accuracy_by_round(r.run, whole=True) for r in results)
    plt = plotting()
    figure, axes = plt.subplots(figsize=(7.5, 4.4))
    drawn = 0
    for i, (name, runs) in enumerate(by_case(results).items()):
        series = [accuracy_by_round(run.run, whole=evaluated) for run in runs]
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
        plt.close(figure)
        return None
    axes.set_xlabel("round")
    of = "all clients" if evaluated else "the round's clients, before their training"
    axes.set_ylabel(f"accuracy on {of}, %")
    figure.legend(loc="outside right center", fontsize=8)
    return figure


def accuracy_by_round(run: RunFiles, *, whole: bool) -> dict[int, float]:
    """Return accuracies by round: of all clients (`whole`), or of the clients of each round."""
    return {
        int(record["round"]): float(record["accuracy"])
        for record in run.rounds
        if record.get("accuracy") is not None
        and (record["phase"] == "evaluate" if whole else record["phase"] not in BETWEEN_ROUNDS)
    }
