"""A bench of two cases and two seeds, and its folder with finished runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from caafp_app.bench.file import BenchPlan, read_bench
from caafp_app.bench.place import BenchFolder
from tests.left_run import leave_run

FILE = """
[bench]
seeds = [1, 2]
against = "dense"

[settings]
synthetic-users = 4

[[case]]
name = "dense"
strategy = "fedavg"

[[case]]
name = "caafp"
sparsity = 0.5
"""

Finish = Callable[..., Path]


@pytest.fixture
def plan(tmp_path: Path) -> BenchPlan:
    path = tmp_path / "pair.toml"
    path.write_text(FILE, encoding="utf-8")
    return read_bench(str(path))


@pytest.fixture
def folder(plan: BenchPlan, tmp_path: Path) -> BenchFolder:
    return BenchFolder.of(plan, str(tmp_path / "out"))


@pytest.fixture
def finish(plan: BenchPlan, folder: BenchFolder) -> Finish:
    """Leave a finished run of a case and a seed, as `leave_run`."""

    def run(name: str, seed: int, *accuracies: float, **options: bool) -> Path:
        case = next(case for case in plan.cases if case.name == name)
        options.setdefault("clustered", name == "caafp")
        return leave_run(
            folder.finished(case, seed),
            accuracies or (0.5, 0.75, 1.0, 0.25),
            case.at(seed).to_dict(),
            **options,
        )

    return run
