"""Pieces of HTML. Whatever comes from a file is escaped here: labels are named by clients."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple

from caafp_app.errors import RunError, reading


class Cell(NamedTuple):
    """One cell: its text, what to sort by (None: the text), and a bar's share of its width."""

    text: str
    value: float | None = None
    shade: float | None = None


Row = Sequence[Cell | str]

MOST_SHOWN = 1e15
"""A larger number is shown as unknown: nothing of a run is so large, and files can be damaged."""


def number(value: float | None, digits: int = 2, times: float = 1.0, shade: bool = False) -> Cell:
    """Return the cell of a number; a dash where it is not known, or cannot be."""
    if value is None or not abs(value) < MOST_SHOWN:
        return Cell("-", -1e300)
    scaled = times * value
    return Cell(f"{scaled:.{digits}f}", scaled, value if shade else None)


def table(heads: Sequence[str], rows: Iterable[Row], *, sortable: bool = False) -> str:
    """Return a table; a `sortable` one is sorted by a click on a head (page.js)."""
    marks = ' class="sortable"' if sortable else ""
    before, after = ('<button type="button">', "</button>") if sortable else ("", "")
    head = "".join(f'<th scope="col">{before}{escape(one)}{after}</th>' for one in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="wide"><table{marks}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def pairs(items: Iterable[tuple[str, object]]) -> str:
    """Return names and values as a description list."""
    told = (
        f"<div><dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in items
    )
    return f"<dl>{''.join(told)}</dl>"


def section(title: str, *parts: str, folded: bool = False) -> str:
    """Return a part of the page below a heading; `folded` is opened by a click."""
    content = "".join(part for part in parts if part)
    if not content:
        return ""
    if folded:
        return f"<details><summary>{escape(title)}</summary>{content}</details>"
    return f"<section><h3>{escape(title)}</h3>{content}</section>"


def whole(title: str, build: Callable[[], str]) -> str:
    """Return a part of the page, or a sentence in its place where it cannot be built.

    A run's files can be damaged, or of another release; the other parts can be read all the same.
    """
    try:
        with reading("what belongs here from the run's files", RunError):
            return build()
    except RunError as error:
        return section(title, paragraph(str(error)))


def paragraph(text: str) -> str:
    """Return a paragraph; empty text gives nothing."""
    return f"<p>{escape(text)}</p>" if text else ""


def figure(svg: str, caption: str) -> str:
    """Return a drawing with its caption; nothing without a drawing."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" if svg else ""


def _cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    if cell.value is None:
        return f"<td>{escape(cell.text)}</td>"
    shade = ""
    if cell.shade is not None:
        shade = f' style="--share:{100 * min(max(cell.shade, 0.0), 1.0):.1f}%" class="bar"'
    return f'<td data-value="{cell.value!r}"{shade}>{escape(cell.text)}</td>'
