"""A view of a run as a page that refreshes itself. Everything a client said is escaped."""

from html import escape
from importlib.resources import files

from caafp_app.report.html import pairs, paragraph, section, table
from caafp_app.report.rounds import curves
from caafp_app.runs.text import duration
from caafp_app.watch.view import HEADS, View

POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; "
    "connect-src 'self'; img-src data:"
)
"""Nothing but this page's own files; a browser is told so."""

SCRIPT = """
const seconds = 1;
const main = document.querySelector("main");
async function look() {
  try {
    const answer = await fetch("view", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    main.innerHTML = await answer.text();
    document.body.dataset.looks = Number(document.body.dataset.looks ?? 0) + 1;
  } catch {
    document.querySelector("h2").textContent = "caafp watch has ended";
  }
  setTimeout(look, 1000 * seconds);
}
setTimeout(look, 1000 * seconds);
"""


def style() -> str:
    """Return the style of the report."""
    return (files("caafp_app.report") / "page.css").read_text(encoding="utf-8")


def page(view: View) -> str:
    """Return the whole page, which asks for `content` again every second."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="watch.css">'
        f"<title>caafp watch: {escape(view.run.path.name)}</title></head>"
        f'<body><main>{content(view)}</main><script src="watch.js"></script></body></html>\n'
    )


def content(view: View) -> str:
    """Return what changes."""
    facts: list[tuple[str, object]] = [("phase", view.phase or "-")]
    facts.append(("round", f"{view.round} of {view.total}"))
    facts.append(("answered", f"{view.answered} of {view.asked}"))
    if view.deadline is not None:
        facts.append(("answers are waited for", f"{duration(view.deadline, rough=True)} more"))
    if view.left is not None:
        facts.append(("time left", f"about {duration(view.left, rough=True)}"))
    if view.accuracy is not None:
        facts.append(("accuracy, as received", f"{100 * view.accuracy:.1f} %"))
    facts.append(("bytes", f"{view.bytes_total / 1e6:.1f} MB"))
    rows = [row.cells() for row in view.devices]
    return (
        f"<h1>{escape(view.run.path.name)}</h1><h2>{escape(view.headline)}</h2>{pairs(facts)}"
        + "".join(paragraph(line) for line in view.troubles)
        + section("Devices", table(HEADS, rows) if rows else "")
        + curves(view.run)
    )
