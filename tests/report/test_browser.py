"""The page in headless Chromium: it renders, sorts, and complains of nothing.

The browser is started by itself, once: what a person would do is a script at the end of the page,
what came of it is read from the page that the browser prints.
"""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from caafp_app.report.page import build_page
from caafp_app.runs.reading import read_run
from tests.e2e.browsing import dumped
from tests.left_run import leave_run

pytestmark = pytest.mark.e2e

PERSON = """
<script>
const first = (table, column) =>
  [...table.tBodies[0].rows].map((row) => row.cells[column].textContent);
const clients = [...document.querySelectorAll("table.sortable")].find(
  (table) => table.tHead.textContent.startsWith("client"));
const press = (column) => clients.tHead.rows[0].cells[column].querySelector("button").click();
const seen = { before: first(clients, 0) };
press(5); seen.downwards = first(clients, 5); seen.mark = clients.tHead.rows[0].cells[5].ariaSort;
press(5); seen.upwards = first(clients, 5);
press(0); seen.names = first(clients, 0);
press(0); seen.back = first(clients, 0);
seen.marks = clients.tHead.querySelectorAll("[aria-sort]").length;
const area = (box) => box.width * box.height;
seen.charts = [...document.querySelectorAll("figure svg")].map(
  (svg) => area(svg.getBoundingClientRect()));
seen.folded = [...document.querySelectorAll("details")].map((part) => part.open);
seen.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
const out = document.createElement("pre");
out.id = "seen";
out.textContent = JSON.stringify(seen);
document.body.append(out);
</script></body>"""


def test_the_page_is_drawn_and_sorts_and_the_browser_has_nothing_to_say(tmp_path: Path) -> None:
    folder = tmp_path
    accuracies = [0.5, 1.0, 0.095, 0.75, 0.25, 0.3, 0.2, 0.6, 0.7, 0.8, 0.9]
    labels = [f"user-{i}" for i in range(len(accuracies))]
    run = leave_run(folder / "run", accuracies, labels=labels)
    page = folder / "page.html"
    page.write_text(build_page([read_run(run)]).replace("</body>", PERSON), encoding="utf-8")
    done = dumped(page.as_uri(), folder)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found, done.stderr[-2000:]
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    numbers = [float(text) for text in seen["downwards"]]
    assert len(numbers) == 11
    assert numbers == sorted(numbers, reverse=True)
    assert [float(text) for text in seen["upwards"]] == sorted(numbers) != numbers
    assert (seen["mark"], seen["marks"]) == ("descending", 1)
    assert seen["before"] == seen["names"] == labels  # user-10 after user-9
    assert seen["back"] == labels[::-1]
    assert len(seen["charts"]) == 6
    assert all(area > 2_000 for area in seen["charts"])
    assert seen["folded"] == [False, False]
    assert "CONSOLE" not in done.stderr
    assert seen["requests"] == []
