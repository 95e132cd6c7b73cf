"""Numbers that clients make up end in no file and break no report."""

import csv
import math
from pathlib import Path

import pytest

from caafp_app.report.page import build_page
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.ledger import Ledger
from caafp_app.runs.reading import read_run
from caafp_app.runs.records import ClientRecord, ClusterReport, RunReport
from caafp_app.runs.summary import build_summary
from tests.runs.conftest import a_round

LABEL = "=HYPERLINK(1)"
SETTINGS = {"strategy": "caafp", "dataset": "synthetic", "seed": 1}


LIES: dict[str, float] = {
    "cluster_accuracy": 1.7e307,
    "cluster_loss": -1e300,
    "personal_accuracy": -0.5,
    "personal_loss": math.inf,
    "personal_sparsity": -1.7e14,
    "cluster_f1": 1.5,
    "personal_f1": -1e300,
}
LIAR = ClientRecord(label=LABEL, cluster=0, examples=10**30, test_examples=int(1e308), **LIES)
HONEST = ClientRecord(
    label="a", cluster=0, examples=10, test_examples=5, cluster_accuracy=0.5, cluster_loss=1.0
)


def test_a_record_takes_for_unknown_what_cannot_be() -> None:
    assert (LIAR.examples, LIAR.test_examples) == (10**9, 10**9)
    assert {getattr(LIAR, name) for name in LIES} == {a_round(accuracy=1e300).accuracy} == {None}
    assert HONEST.cluster_accuracy == 0.5


def test_summary_table_and_report_show_possible_values_only(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write("settings", SETTINGS)
    directory.append_round(a_round(loss=1.7e307))
    clients = (HONEST, LIAR)
    directory.write_clients(clients)
    report = RunReport(
        clients=clients,
        clusters={0: ClusterReport(members=("a", LABEL), examples=10, density=0.5)},
        ledger=Ledger(),
        seconds={"total": 1.0, "rounds": 1.0, "startup": 0.0},
    )
    summary = build_summary(report, settings=SETTINGS, rounds=1)
    directory.write("summary", summary)
    assert summary["accuracy"]["cluster"]["mean"] == 0.5
    assert summary["sparsity"]["personal_min"] is None
    with (tmp_path / "clients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["a", f"'{LABEL}"]
    run = read_run(tmp_path)
    assert [client.label for client in run.clients] == ["a", LABEL]
    assert "e+307" not in build_page([run, run])


@pytest.mark.parametrize(
    "line",
    [
        '{"round": 1, "phase": "prune", "accuracy": 1.7e307, "loss": 1e308, "bytes_down": 1e300}',
        '{"round": 9e999, "phase": "prune", "accuracy": "high"}',
        '{"round": "one", "phase": 5, "density": {"x": []}}',
        '{"phase": null}',
        "[]",
    ],
)
def test_a_report_of_damaged_files_says_so_and_shows_the_rest(tmp_path: Path, line: str) -> None:
    directory = RunDirectory(tmp_path)
    directory.write("settings", SETTINGS)
    directory.write_clients([HONEST])
    (tmp_path / "rounds.jsonl").write_text(line + "\n")
    (tmp_path / "summary.json").write_text('{"accuracy": {"cluster": 3}, "bytes": []}')
    page = build_page([read_run(tmp_path)] * 2)
    assert "cannot read" in page
    assert "<td>a</td>" in page
