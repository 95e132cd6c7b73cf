"""A view of a run as lines and tables of a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from caafp_app.runs.text import duration
from caafp_app.safe_text import printable
from caafp_app.watch.view import HEADS, View

COLOURS = {"answered": "green", "works": "cyan", "failed": "red", "missed": "red", "away": "yellow"}


def render(view: View) -> RenderableType:
    """Return the view; what clients call themselves is text here, never markup."""
    facts = [f"run {view.run.path.name}: {view.headline}"]
    if view.deadline is not None:
        facts.append(f"answers are waited for {duration(view.deadline, rough=True)} more")
    if view.left is not None and not view.finished:
        facts.append(f"about {duration(view.left, rough=True)} left")
    figures = [f"{view.bytes_total / 1e6:.1f} MB"]
    if view.accuracy is not None:
        figures.insert(0, f"accuracy {100 * view.accuracy:.1f} % (as received by those asked)")
    table = Table(box=None, padding=(0, 1, 0, 0))
    right = ("seen", "accuracy", "bytes", "failed")
    for head in HEADS[:-1]:
        # Flower's commands go by the node: its id has to be whole, also where a line is short.
        whole = head in ("device", "node")
        table.add_column(head, justify="right" if head in right else "left", no_wrap=whole)
    for row in view.devices:
        cells = [Text(printable(cell)) for cell in row.cells()]
        cells[HEADS.index("now")].style = COLOURS.get(row.state, "")
        table.add_row(*cells[:-1])
    parts: list[RenderableType] = [Text("; ".join(facts)), Text(", ".join(figures))]
    parts += [Text(f"! {printable(line)}", style="yellow") for line in view.troubles]
    devices = [row.device for row in view.devices]
    reasons = [Text(printable(f"{one.label}: {one.reason}")) for one in devices if one.reason]
    return Group(*parts, table, *reasons)
