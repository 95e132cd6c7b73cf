"""Tables, JSON and targets."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.report import Report, Target


@pytest.fixture
def report() -> Report:
    made = Report("toy", "A toy", {"way": "way", "ms": "ms"})
    made.rows = [{"way": "ours", "ms": 1.5, "unseen": 1}, {"way": "other"}]
    made.targets = [Target("quick", 1.5, 2.0, "ms"), Target("small", 3.0, 2.0)]
    made.notes = ["[not] markup"]
    made.more = {"kinds": [1]}
    return made


def test_json_holds_rows_targets_and_machine(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "toy.json"
    report.finish(path)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["format"], found["benchmark"]) == (1, "toy")
    assert found["rows"] == report.rows
    assert [target["met"] for target in found["targets"]] == [True, False]
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["flwr"].count(".") >= 1
    assert found["kinds"] == [1]


def test_table_shows_columns_targets_and_notes(report: Report) -> None:
    console = Console(width=100, record=True)
    report.show(console)
    text = console.export_text()
    assert "ours" in text
    assert "unseen" not in text
    assert "met  quick: 1.5 of at most 2 ms" in text
    assert "missed  small" in text
    assert "[not] markup" in text
