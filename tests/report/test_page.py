import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from caafp_app import cli
from caafp_app.report.page import build_page, run_names
from caafp_app.runs.reading import read_run
from tests.left_run import leave_run

VOID = {"meta", "link", "br", "img", "input"}


class Outline(HTMLParser):
    """Checks that tags are closed in order, and keeps headings, tables and outside addresses."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.addresses: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "data")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3", "summary"):
            self.headings.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def page_of(*folders: Path) -> str:
    return build_page([read_run(folder) for folder in folders])


def test_all_parts_of_a_run(tmp_path: Path) -> None:
    outline = Outline(page_of(leave_run(tmp_path / "one", (0.5, 0.75, 1.0, 0.25))))
    assert outline.headings == [
        "caafp: one",
        "one",
        "Outcome",
        "Rounds",
        "Clients",
        "Clusters",
        "Masks",
        "Bytes",
        "Plan",
        "Settings",
    ]
    assert ["personal models", "62.50", "27.95", "25.00", "25.00", "4"] in outline.rows
    client = next(row for row in outline.rows if row[0] == "user-02")
    assert client[1:7] == ["1", "12", "4", "90.00", "100.00", "10.00"]
    assert ["1", "2", "20", "52.50", "62.50", "user-02, user-03"] in outline.rows
    assert ["5", "prune"] in [row[:2] for row in outline.rows]


def test_changes_of_groups_are_a_timeline(tmp_path: Path) -> None:
    run = leave_run(tmp_path / "one")
    clusters = json.loads((run / "clusters.json").read_text())
    told = {"what": "move", "clients": ["<b>a"], "before": 0, "after": 1, "why": "led there"}
    clusters["changes"] = [{"round": 21, **told}]
    (run / "clusters.json").write_text(json.dumps(clusters))
    assert ["21", "move", "0 to 1", "<b>a", "led there"] in Outline(page_of(run)).rows


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = page_of(leave_run(tmp_path / "one"), leave_run(tmp_path / "two"))
    assert Outline(page).addresses == ["data:,"]
    assert not re.search(r"https?://|@import|url\(", page)
    assert "default-src 'none'" in page


def test_several_side_by_side(tmp_path: Path) -> None:
    one = leave_run(tmp_path / "a" / "42", (0.5, 1.0), {"strategy": "fedavg"})
    two = leave_run(tmp_path / "b" / "42", finished=False)
    outline = Outline(page_of(one, two))
    assert outline.headings[:2] == ["caafp: 2 runs", "Side by side"]
    table = {row[0]: row for row in outline.rows}
    assert table["a/42"][1:5] == ["fedavg", "synthetic", "42", "75.00"]
    assert set(table["b/42"][4:]) == {"-"}
    assert "no end: 6 rounds" in page_of(one, two)


def test_names_tell_runs_apart(tmp_path: Path) -> None:
    folders = [leave_run(tmp_path / name / "1") for name in ("a", "b")]
    assert run_names([read_run(folder) for folder in folders]) == ["a/1", "b/1"]
    assert run_names([read_run(folders[0])] * 2) == [str(folders[0])] * 2


def test_labels_cannot_break_out(tmp_path: Path) -> None:
    nasty = "</script><script>alert(1)</script>"
    page = page_of(leave_run(tmp_path / "one", (0.5, 0.5), labels=[nasty, "b"]))
    assert page.count("<script>") == 1
    Outline(page)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["report", *map(str, arguments)])


class TestCommand:
    def test_one_report_is_written_into_its_run(self, tmp_path: Path) -> None:
        run = leave_run(tmp_path / "runs" / "one")
        result = invoke("one", "--output-dir", tmp_path)
        assert (result.exit_code, result.output) == (0, f"{run / 'report.html'}\n")
        assert (run / "report.html").read_text().startswith("<!DOCTYPE html>")

    def test_several_runs_need_an_output_file(self, tmp_path: Path) -> None:
        runs = [leave_run(tmp_path / name) for name in "ab"]
        assert invoke(*runs).exit_code == 2
        assert invoke(*runs, "-o", tmp_path / "both.html").exit_code == 0
        Outline((tmp_path / "both.html").read_text())
        assert not (runs[0] / "report.html").exists()

    @pytest.mark.parametrize(("name", "status"), [("none", 2), (".", 1)])
    def test_a_folder_without_a_run_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, status: int
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = invoke(name)
        assert result.exit_code == status
        assert result.output.startswith("caafp: expected")
