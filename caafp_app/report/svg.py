"""Small drawings as SVG text: lines over rounds, and matrices as coloured squares."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from caafp_app.report.html import MOST_SHOWN
from caafp_app.runs.palette import COLOURS

Place = Callable[[float, float], tuple[float, float]]
"""From the units of the axes to those of the drawing."""

_WIDTH, _HEIGHT = 760, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 22, 34
_TICKS = 5
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
_LIGHT, _DARK = (255, 255, 255), (0, 68, 119)


class Line(NamedTuple):
    """A series of points, x ascending; `steps` holds each value until the next."""

    name: str
    points: Sequence[tuple[float, float]]
    steps: bool = False


def draw(
    series: Sequence[Line],
    y_title: str,
    low: float | None = None,
    high: float | None = None,
    spans: Sequence[tuple[float, str]] = (),
) -> str:
    """Return a chart of lines as one ``svg`` element; empty if there is not a single point.

    `low` and `high` are the ends of the y axis (None: those of the data); `spans` says where a
    phase of the run begins, and its name.
    """
    lines = []
    for line in series:
        # Files can be damaged: points that no axis can have are left out.
        drawn = [(x, y) for x, y in line.points if abs(x) < MOST_SHOWN and abs(y) < MOST_SHOWN]
        if drawn:
            lines.append(line._replace(points=drawn))
    if not lines:
        return ""
    all_x, all_y = zip(*(point for line in lines for point in line.points), strict=True)
    x_low, x_high = _range(min(all_x), max(all_x))
    y_low, y_high = _range(min(all_y) if low is None else low, max(all_y) if high is None else high)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)
        up = (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)
        return _LEFT + across, _HEIGHT - _BOTTOM - up

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_title)} by round">'
    ]
    for y in ticks(y_low, y_high):
        _, height = at(x_low, y)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{height:.1f}" '
            f'y2="{height:.1f}"/><text class="y" x="{_LEFT - 6}" y="{height + 4:.1f}">{y:g}</text>'
        )
    for x in ticks(x_low, x_high):
        place, _ = at(x, y_low)
        parts.append(f'<text class="x" x="{place:.1f}" y="{_HEIGHT - _BOTTOM + 16}">{x:g}</text>')
    for x, name in spans:
        place, _ = at(min(max(x, x_low), x_high), y_low)
        parts.append(
            f'<line class="span" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" '
            f'y2="{_HEIGHT - _BOTTOM}"/><text class="phase" x="{place + 3:.1f}" y="{_TOP - 6}">'
            f"{escape(name)}</text>"
        )
    for i, line in enumerate(lines):
        parts.append(_drawn(line, i, at))
    parts.append(
        f'<text class="x" x="{(_LEFT + _WIDTH) / 2:.0f}" y="{_HEIGHT - 4}">round</text>'
        f'<text class="title" x="14" y="{_HEIGHT / 2:.0f}" '
        f'transform="rotate(-90 14 {_HEIGHT / 2:.0f})">{escape(y_title)}</text></svg>'
    )
    return "".join(parts) + (_legend(lines) if len(lines) > 1 else "")


def matrix(values: Sequence[Sequence[float]], names: Sequence[str], what: str) -> str:
    """Return a square matrix as shaded squares, dark for the largest; empty for no values.

    `names` are those of rows and columns; `what` a value is stands in the hint at each square.
    """
    if not names:
        return ""
    largest = max((value for row in values for value in row), default=0.0) or 1.0
    side = max(8, min(44, 560 // len(names)))
    left = 8 + 7 * min(16, max(map(len, names)))
    size = left + side * len(names) + 8
    parts = [f'<svg viewBox="0 0 {size} {size}" width="{size}" role="img" aria-label="{what}">']
    for i, (row, name) in enumerate(zip(values, names, strict=True)):
        middle = left + side * (i + 0.5)
        shown = escape(name if len(name) <= 16 else name[:15] + "…")
        parts.append(
            f'<text class="y" x="{left - 4}" y="{middle + 4:.1f}">{shown}</text>'
            f'<text class="y" x="{middle + 4:.1f}" y="{left - 4}" '
            f'transform="rotate(90 {middle + 4:.1f} {left - 4})">{shown}</text>'
        )
        for j, (value, other) in enumerate(zip(row, names, strict=True)):
            x, y = left + side * j, left + side * i
            parts.append(
                f'<rect x="{x}" y="{y}" width="{side}" height="{side}" '
                f'fill="{_shade(value / largest)}"><title>{escape(name)}, {escape(other)}: '
                f"{what} {value:.3f}</title></rect>"
            )
            if side >= 30:
                ink = "#fff" if value / largest > 0.55 else "#000"
                parts.append(
                    f'<text class="x" x="{x + side / 2:.1f}" y="{y + side / 2 + 4:.1f}" '
                    f'style="fill:{ink}">{value:.2f}</text>'
                )
    return "".join(parts) + "</svg>"


def ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers from `low` to `high`: multiples of 1, 2 or 5 times 10^n."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda times: abs(times * power - rough))
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    # Rounded: 3 * 0.1 is not 0.3.
    return [round((first + i) * step, 12) for i in range(count)]


def _range(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _drawn(line: Line, index: int, at: Place) -> str:
    colour = COLOURS[index % len(COLOURS)]
    dash = _DASHES[index // len(COLOURS) % len(_DASHES)]
    path = []
    for i, (x, y) in enumerate(line.points):
        if line.steps and i:
            path.append(at(x, line.points[i - 1][1]))
        path.append(at(x, y))
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in path)
    dots = "".join(
        f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.5" fill="{colour}"><title>{escape(line.name)}, '
        f"{x:g}: {y:.4g}</title></circle>"
        for x, y in line.points
        for px, py in [at(x, y)]
    )
    return (
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" stroke-dasharray="{dash}" '
        f'points="{text}"/>{dots}'
    )


def _legend(lines: Sequence[Line]) -> str:
    items = "".join(
        f'<span><i style="background:{COLOURS[i % len(COLOURS)]}"></i>{escape(line.name)}</span>'
        for i, line in enumerate(lines)
    )
    return f'<div class="legend">{items}</div>'


def _shade(share: float) -> str:
    mixed = (round(a + (b - a) * share) for a, b in zip(_LIGHT, _DARK, strict=True))
    return f"rgb({','.join(map(str, mixed))})"
