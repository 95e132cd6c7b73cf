"""How all figures look, and how they are saved."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caafp_app.errors import RunError
from caafp_app.runs.files import write_atomic
from caafp_app.runs.palette import COLOURS

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", ":", "-.")
_LONGEST = 24
HEAT = "cividis"
"""Colour map of heat maps: as bright as it is blue to yellow, in grey too."""

_SETTINGS: Any = {
    "svg.hashsalt": "caafp",  # the same figure is the same file
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
    "figure.constrained_layout.use": True,
}


def drawing(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """Return a figure of so many inches and its axes; pyplot, a notebook's own, stays as it is."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RunError(
            "figures need matplotlib, found none; install the extra 'simulation' (`pip "
            'install "caafp-app[simulation]"`)'
        ) from error
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height))
        return figure, figure.subplots(1, columns, sharex=True)


def look(index: int) -> dict[str, str]:
    """Return colour, marker and line of the index-th of several series, all three different."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": LINES[index // len(COLOURS) % len(LINES)],
    }


def labelled(figure: Any, x: str, y: str) -> Any:
    """Return the figure, with names on its axes and of its series beside them."""
    figure.axes[0].set_xlabel(x)
    figure.axes[0].set_ylabel(y)
    figure.legend(loc="outside right center", fontsize=8)
    return figure


def save(figure: Any, path: Path) -> list[Path]:
    """Write a figure as PNG and SVG beside each other; `path` has no ending."""
    import matplotlib as mpl

    written = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        content = io.BytesIO()
        with mpl.rc_context(_SETTINGS):
            figure.savefig(content, format=kind, dpi=150, metadata=metadata)
        figure.set_layout_engine("none")  # it is laid out now; that takes as long as drawing
        # Not with_suffix: a case's name may hold a point.
        written.append(path.with_name(f"{path.name}.{kind}"))
        write_atomic(written[-1], content.getvalue())
    return written


def width(count: int) -> float:
    """Return inches for so many things side by side."""
    return max(5.5, min(16.0, 1.5 + 0.55 * count))


def short(names: Sequence[str]) -> list[str]:
    """Cut long names, so that they leave room for the figure."""
    return [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in names]
