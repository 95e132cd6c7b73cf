"""Accuracy against a setting that differs between cases, such as the alpha of Dirichlet."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from caafp_app.bench.figures.style import drawing, look
from caafp_app.bench.results import Result
from caafp_app.bench.statistics import mean_of
from caafp_app.bench.tables import by_case
from caafp_app.settings import Scalar

_MODELS = (
    ("personal-accuracy", "personal accuracy, %"),
    ("cluster-accuracy", "accuracy without fine-tuning, %"),
)


Lines = dict[str, dict[float, list[Result]]]
"""Runs by what else is varied, then by the value of the setting."""


def swept(results: Sequence[Result]) -> list[str]:
    """Return the settings that a line of three points or more can be drawn over."""
    keys = dict.fromkeys(key for result in results for key in result.case.varied)
    return [key for key in keys if any(len(line) >= 3 for line in _lines(results, key).values())]


def _lines(results: Sequence[Result], key: str) -> Lines:
    """Join the cases that differ in nothing but the setting, and in what follows from it."""
    cases = [
        (runs, runs[0].case.settings.to_dict())
        for runs in by_case(results).values()
        if type(runs[0].case.varied.get(key)) in (int, float)
    ]
    apart = [key]  # settings that tell the cases apart
    for other in dict.fromkeys(name for runs, _ in cases for name in runs[0].case.varied):
        seen: dict[tuple[Scalar, ...], set[Scalar]] = {}
        for _, settings in cases:
            seen.setdefault(tuple(settings[name] for name in apart), set()).add(settings[other])
        if any(len(values) > 1 for values in seen.values()):
            apart.append(other)
    lines: Lines = {}
    for runs, settings in cases:
        label = ", ".join(str(settings[name]) for name in apart[1:])
        lines.setdefault(label, {}).setdefault(float(settings[key]), []).extend(runs)
    return _by_name(lines, key)


def _by_name(lines: Lines, key: str) -> Lines:
    """Call each line as its cases are called, where these are one name and the setting's value.

    ``caafp-0.1`` and ``caafp-0.3`` are the line ``caafp``: it says more than settings' values.
    """
    names = {}
    for label, points in lines.items():
        cases = [run.case for runs in points.values() for run in runs]
        ends = [f"-{case.settings.to_dict()[key]}" for case in cases]
        names[label] = {
            case.name.removesuffix(end) if case.name.endswith(end) else ""
            for case, end in zip(cases, ends, strict=True)
        }
    found = [name for of in names.values() for name in of]
    if len(lines) < 2 or "" in found or not len(found) == len(set(found)) == len(lines):
        return lines
    return {name: lines[label] for label, of in names.items() for name in of}


def draw_sweep(results: Sequence[Result], key: str) -> Any:
    """Draw accuracy against one setting, with and without fine-tuning.

    A line joins the cases that differ in nothing else; bars are a standard deviation over seeds.
    """
    lines = {label: line for label, line in _lines(results, key).items() if len(line) > 1}
    figure, both = drawing(10.0, 4.2, columns=2)
    for axes, (column, title) in zip(both, _MODELS, strict=True):
        for i, (label, points) in enumerate(lines.items()):
            known = [
                (x, mean)
                for x in sorted(points)
                if (mean := mean_of([run.value(column) for run in points[x]])) is not None
            ]
            axes.errorbar(
                [x for x, _ in known],
                [100 * mean.mean for _, mean in known],
                yerr=np.nan_to_num([100 * mean.deviation for _, mean in known]),
                **look(i),
                capsize=2,
                label=label or None,
            )
        axes.set_xlabel(key)
        axes.set_ylabel(title)
        numbers = sorted({x for points in lines.values() for x in points})
        if numbers[0] > 0 and numbers[-1] / numbers[0] >= 8:
            axes.set_xscale("log")
        axes.set_xticks(numbers, [f"{x:g}" for x in numbers])
        axes.minorticks_off()
    if any(lines):
        both[0].legend(fontsize=8)
    return figure
