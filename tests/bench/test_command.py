"""`caafp bench` as a command: with runs that are there already, and with real ones."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict
from typer.testing import CliRunner, Result

from caafp_app import cli
from caafp_app.bench import write
from caafp_app.bench.file import BenchPlan
from caafp_app.bench.place import BenchFolder
from caafp_app.client_app import app as client_app
from caafp_app.server_app import app as server_app
from tests.bench.conftest import Finish
from tests.local_grid import LocalGrid
from tests.strategies.support import nodes


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["bench", *map(str, arguments)])


def test_a_dry_run_starts_and_writes_nothing(tmp_path: Path) -> None:
    result = invoke("smoke", "--dry-run", "--output", tmp_path / "out", "seed=7")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "caafp seed 7: to run" in lines
    assert len(lines) == 6
    assert list(tmp_path.iterdir()) == []


def test_a_setting_of_a_case_that_changes_nothing_is_noted(tmp_path: Path) -> None:
    bench = tmp_path / "two.toml"
    bench.write_text(
        '[bench]\npreset = "smoke"\nseeds = [7]\n'
        '[[case]]\nname = "shared"\nstrategy = "fedavg"\n'
        '[[case]]\nname = "own"\nstrategy = "fedavg"\nsparsity = 0.5\n',
        encoding="utf-8",
    )
    result = invoke(bench, "--dry-run", "--output", tmp_path / "out", "prune-every=2")
    assert result.exit_code == 0, result.output
    notes = [line for line in result.output.splitlines() if line.startswith("note:")]
    assert notes == ["note: own: sparsity has no effect: strategy 'fedavg' has no argument for it"]


def test_what_is_finished_is_kept_and_put_in_tables(
    tmp_path: Path,
    plan: BenchPlan,
    folder: BenchFolder,
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(write, "OF_A_RUN", {})  # drawing takes its time
    with folder.opened(plan):
        for case in plan.cases:
            for seed in plan.seeds:
                finish(case.name, seed)
    result = invoke(tmp_path / "pair.toml", "--output", folder.path)
    assert result.exit_code == 0, result.output
    assert "| dense | 2 |" in result.output
    assert f"Results: {folder.path}" in result.output
    assert (folder.path / "figures" / "accuracy-by-round.svg").is_file()
    assert not (folder.path / "logs").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["smoek"], "did you mean 'smoke'"),
        (["smoke", "--only", "fedavgg"], "did you mean 'fedavg'"),
        (["smoke", "--jobs", "999"], "--jobs: expected at most"),
        (["smoke", "strategy=caafp"], "--only"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    tmp_path: Path, arguments: list[str], part: str
) -> None:
    result = invoke(*arguments, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert part in result.output
    assert list(tmp_path.iterdir()) == []


def test_other_settings_are_not_overwritten_silently(
    tmp_path: Path, plan: BenchPlan, folder: BenchFolder, finish: Finish
) -> None:
    with folder.opened(plan):
        finish("dense", 1)
    arguments = (tmp_path / "pair.toml", "--output", folder.path, "--dry-run", "batch-size=5")
    refused = invoke(*arguments)
    assert refused.exit_code == 2
    assert "batch-size is 32 there, 5 here" in refused.output
    assert invoke(*arguments, "--force").exit_code == 0


SMALL = {
    **{"synthetic-users": 4, "synthetic-windows": 40, "clients-per-round": 4},
    **{"warmup-rounds": 1, "prune-rounds": 2, "prune-every": 1},
}


@pytest.mark.e2e
def test_flowers_simulation_gives_the_very_numbers_of_a_grid_in_this_process(
    tmp_path: Path,
) -> None:
    assert set(_compare(["--in-process", "--only", "caafp", "engine=ray"], tmp_path)) == {"caafp"}


@pytest.mark.e2e
def test_two_runs_at_once_have_the_digits_of_one_by_one_here(tmp_path: Path) -> None:
    """By `caafp run`; that every strategy runs so is held by `tests/engine` and `test_file`."""
    only = ["--only", "fedchar", "--only", "caafp"]
    rows = _compare(["--jobs", 2, *only, "engine=batched"], tmp_path)
    assert set(rows) == {"fedchar", "caafp"}
    table = (tmp_path / "out" / "table.md").read_text()
    assert all(name in table for name in rows)


def _compare(options: list[object], folder: Path) -> dict[str, Any]:
    """Run `smoke`, compare each of its runs with one in this process, return the rows by case."""
    out = folder / "out"
    fewer = [f"{name}={value}" for name, value in SMALL.items()]
    result = invoke("smoke", "--output", out, *options, *fewer)
    assert result.exit_code == 0, result.output
    with (out / "results.csv").open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    for name, row in rows.items():
        place = out / "runs" / name / row["seed"]
        settings = json.loads((place / "settings.json").read_text())
        truth = _here(settings, folder / name)
        found = json.loads((place / "summary.json").read_text())
        assert found["accuracy"] == truth["accuracy"], name
        assert found["clusters"] == truth["clusters"], name
        assert found["sparsity"] == truth["sparsity"], name
        assert float(row["personal-accuracy"]) == truth["accuracy"]["personal"]["mean"]
    assert not (out / "unfinished").exists()
    return rows


def _here(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run the same settings in this process and return the summary."""
    config = settings | {"output-dir": str(folder), "run-name": "here"}
    grid = LocalGrid(client_app, nodes(SMALL["synthetic-users"]), config)
    server_app(grid, Context(1, 1, {}, RecordDict(), config))
    summary: dict[str, Any] = json.loads((folder / "runs" / "here" / "summary.json").read_text())
    return summary
