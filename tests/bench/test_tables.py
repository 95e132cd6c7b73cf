import csv

import numpy as np
import pytest

from caafp_app.bench.file import BenchPlan
from caafp_app.bench.place import BenchFolder
from caafp_app.bench.results import COLUMNS, gather
from caafp_app.bench.tables import comparison, latex, markdown
from caafp_app.bench.write import write_tables
from tests.bench.conftest import Finish

DENSE = [[0.5, 0.75, 1.0, 0.25], [0.5, 0.5, 1.0, 0.5]]
CAAFP = [[0.75, 0.75, 1.0, 0.5], [1.0, 1.0, 1.0, 1.0]]


@pytest.fixture
def four(finish: Finish) -> None:
    for seed, (dense, caafp) in enumerate(zip(DENSE, CAAFP, strict=True), 1):
        finish("dense", seed, *dense)
        finish("caafp", seed, *caafp)


@pytest.mark.usefixtures("four")
def test_a_row_for_each_run(plan: BenchPlan, folder: BenchFolder) -> None:
    write_tables(plan, folder)
    with (folder.path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["strategy"] + row["seed"] for row in rows] == [
        *("fedavg1", "fedavg2", "caafp1", "caafp2")
    ]
    assert set(COLUMNS) | {"sparsity", "split", "dataset"} <= set(rows[0])
    third = rows[2]
    assert float(third["personal-accuracy"]) == pytest.approx(np.mean(CAAFP[0]))
    assert float(third["personal-std"]) == pytest.approx(np.std(CAAFP[0]))
    assert float(third["personal-worst-tenth"]) == 0.5
    assert float(third["cluster-accuracy"]) == pytest.approx(np.mean(CAAFP[0]) - 0.1)
    assert (third["sparsity-min"], third["seconds"], third["rounds"]) == ("0.5", "12.0", "6")
    assert [row["k"] for row in rows] == ["1", "1", "2", "2"]
    assert float(third["mb-formula"]) == pytest.approx(1000 * 4 * 0.5 * 2 / 1e6)
    assert rows[0]["sparsity"] == "0.7"  # varied by the other case: its own value stands here


@pytest.mark.usefixtures("four")
def test_markdown_has_mean_and_deviation_of_each_case(plan: BenchPlan, folder: BenchFolder) -> None:
    text = markdown(plan.name, gather(plan, folder))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    cells = [cell.strip() for cell in lines[3].strip("|").split("|")]
    means = [100 * np.mean(values) for values in CAAFP]
    assert cells[:2] == ["caafp", "2"]
    assert cells[2] == f"**{np.mean(means):.2f}** ± {np.std(means, ddof=1):.2f}"
    assert "**" not in lines[2].split("|")[3]  # dense is the worse one
    assert "(test)" in text


@pytest.mark.usefixtures("four")
def test_latex_has_what_markdown_has(plan: BenchPlan, folder: BenchFolder) -> None:
    results = gather(plan, folder)
    text = latex("a_b & 5%", results)
    assert r"a\_b \& 5\%" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line]
    assert len(rows) == 2
    assert all(line.endswith(r" \\") for line in rows)
    assert {line.count("&") for line in rows} == {text.split(r"\toprule")[1].count("&") // 3}
    for values in (CAAFP, DENSE):
        accuracy = f"{100 * np.mean(values):.2f}"
        assert accuracy in text
        assert accuracy in markdown("x", results)


@pytest.mark.usefixtures("four")
def test_the_comparison_is_paired_by_seed_and_client(plan: BenchPlan, folder: BenchFolder) -> None:
    text = comparison(plan.name, gather(plan, folder))
    differences = [
        100 * (np.mean(ours) - np.mean(theirs)) for ours, theirs in zip(CAAFP, DENSE, strict=True)
    ]
    accuracy = next(line for line in text.splitlines() if "| accuracy |" in line)
    assert f"{np.mean(differences):+.2f}" in accuracy
    assert "| 2 of 2 |" in accuracy
    clients = np.mean([np.subtract(a, b) for a, b in zip(CAAFP, DENSE, strict=True)], axis=0)
    last = [line for line in text.splitlines() if line.startswith("| caafp | dense |")][-1]
    assert f"{100 * clients.mean():+.2f}" in last
    assert "| 4 |" in last  # clients, not clients x seeds
    assert "| dense | dense |" not in text


def test_only_what_is_finished_and_as_asked(
    plan: BenchPlan, folder: BenchFolder, finish: Finish
) -> None:
    finish("dense", 1)
    finish("dense", 7)  # a seed that nobody asked for
    finish("caafp", 1, finished=False)
    assert [(r.case.name, r.seed) for r in gather(plan, folder)] == [("dense", 1)]
    write_tables(plan, folder)
    found = {path.name for path in folder.path.iterdir()}
    assert found == {"runs", "results.csv", "table.md", "table.tex", "paired.md"}
    assert "no number" not in markdown("x", gather(plan, folder))
    assert "in common" in comparison("x", gather(plan, folder))


def test_before_the_first_run(plan: BenchPlan, folder: BenchFolder) -> None:
    folder.path.mkdir()
    assert write_tables(plan, folder) == []
    assert "No run is finished" in (folder.path / "table.md").read_text()
    assert (folder.path / "results.csv").read_text() == "case\n"
