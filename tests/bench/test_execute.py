"""The queue, with small programs in place of runs."""

import os
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest

from caafp_app.bench import execute as module
from caafp_app.bench.execute import Job, check_queue, client_cpus, execute
from caafp_app.bench.file import BenchPlan, Case, read_bench
from caafp_app.bench.place import BenchFolder
from caafp_app.errors import DataError, SettingsError
from caafp_app.launch import processes
from caafp_app.launch.processes import Family

PROGRAM = """
import json, pathlib, sys, time, tomllib
config = tomllib.loads(pathlib.Path(sys.argv[1]).read_text())
if config["seed"] == {failing}:
    print("before"); print("caafp: the dog ate it", file=sys.stderr); sys.exit(3)
place = pathlib.Path(config["output-dir"]) / "runs" / config["run-name"]
place.mkdir(parents=True)
(place / "rounds.jsonl").write_text("{{}}\\n")
time.sleep({seconds})
(place / "settings.json").write_text(json.dumps(config))
(place / "summary.json").write_text("{{}}")
"""


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(monkeypatch, tmp_path)


def stand_in(
    patch: pytest.MonkeyPatch, folder: Path, failing: int = -1, seconds: float = 0.0
) -> None:
    path = folder / "program.py"
    path.write_text(textwrap.dedent(PROGRAM.format(failing=failing, seconds=seconds)))

    def command(case: Case, config: Path, cpus: int, in_process: bool) -> list[str]:
        return [sys.executable, str(path), str(config)]

    patch.setattr(module, "command", command)


def queue_of(plan: BenchPlan) -> list[Job]:
    return [(case, seed) for seed in plan.seeds for case in plan.cases]


@pytest.mark.usefixtures("program")
def test_all_are_run_and_kept(plan: BenchPlan, folder: BenchFolder) -> None:
    left = folder.unfinished(plan.cases[0], 1)  # of an earlier attempt
    left.mkdir(parents=True)
    (left / "rounds.jsonl").touch()
    ended = list(execute(queue_of(plan), folder, jobs=1))
    assert [(e.case, e.seed) for e in ended] == queue_of(plan)
    assert not any(e.complaint for e in ended)
    assert all(folder.has(e.case, e.seed) for e in ended)
    assert not (folder.path / "unfinished").exists()


def test_a_failure_is_told_and_the_others_go_on(
    plan: BenchPlan, folder: BenchFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(monkeypatch, tmp_path, failing=1)
    ended = list(execute(queue_of(plan), folder, jobs=1))
    failed = [e for e in ended if e.complaint]
    assert [(e.case.name, e.seed) for e in failed] == [("dense", 1), ("caafp", 1)]
    assert failed[0].complaint.startswith("caafp: the dog ate it")
    assert str(folder.log(plan.cases[0], 1)) in failed[0].complaint
    assert "before" in folder.log(plan.cases[0], 1).read_text()
    assert folder.has(plan.cases[0], 2)


def test_one_that_leaves_nothing_has_failed(
    plan: BenchPlan, folder: BenchFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "command", lambda *_: [sys.executable, "-c", ""])
    (ended,) = execute([(plan.cases[0], 1)], folder)
    assert "found nothing" in ended.complaint


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_at_most_so_many_at_once(
    plan: BenchPlan, folder: BenchFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(monkeypatch, tmp_path, seconds=0.3)
    seen: list[int] = []
    ended = list(
        execute(queue_of(plan), folder, jobs=2, look=lambda running: seen.append(len(running)))
    )
    assert len(ended) == 4
    assert max(seen) == 2


def test_what_runs_is_ended_when_nobody_waits_for_it(
    plan: BenchPlan, folder: BenchFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(monkeypatch, tmp_path, seconds=60.0)
    families: list[Family] = []

    def family(mark: str) -> Family:
        families.append(Family(mark))
        return families[-1]

    monkeypatch.setattr(processes, "Family", family)

    def interrupt(running: list[Job]) -> None:
        if folder.progress(*running[0]) > 0:
            assert families[0].members()
            raise KeyboardInterrupt

    began = time.monotonic()
    with (
        pytest.raises(KeyboardInterrupt),
        closing(execute([(plan.cases[0], 1)], folder, look=interrupt)) as endings,
    ):
        list(endings)
    assert time.monotonic() - began < 30.0
    assert families[0].members() == set()
    assert not folder.has(plan.cases[0], 1)


def test_jobs_share_the_cores() -> None:
    shares = {
        (jobs, cores): cores // client_cpus(jobs, cores)
        for cores in (1, 2, 3, 4, 16)
        for jobs in range(1, cores + 1)
    }
    # So many clients at once in each run, and never more than there are cores.
    assert shares[1, 2] == 2
    assert shares[2, 2] == 1
    assert shares[4, 16] == 4
    assert all(1 <= jobs * clients <= cores for (jobs, cores), clients in shares.items())
    with pytest.raises(SettingsError, match="--jobs: expected at most the 2 cores"):
        client_cpus(3, 2)
    assert client_cpus(1) <= (os.cpu_count() or 1)


def test_a_case_is_run_by_its_command(plan: BenchPlan, tmp_path: Path) -> None:
    config = tmp_path / "x.toml"
    real = module.command(plan.cases[0], config, 2, False)
    assert real[1:] == ["-m", "caafp_app.cli", "run", str(config), "--json", "--client-cpus", "2"]
    local = module.command(plan.cases[0], config, 2, True)
    assert local[1:] == ["-m", "caafp_app.bench", str(config), "4", "2"]


def test_data_is_looked_at_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "data.toml"
    path.write_text('[settings]\ndataset = "npz"\n[[case]]\nname = "a"\n', encoding="utf-8")
    plan = read_bench(str(path), [f"data-dir={tmp_path / 'none.npz'}"])
    folder = BenchFolder.of(plan, str(tmp_path / "out"))
    with pytest.raises(DataError, match=r"case 'a': .*none\.npz"):
        check_queue(queue_of(plan), folder)
