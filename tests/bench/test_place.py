import json
from pathlib import Path

import pytest

from caafp_app.bench.file import BenchPlan, read_bench
from caafp_app.bench.place import BenchFolder
from caafp_app.errors import RunError, SettingsError
from tests.bench.conftest import FILE, Finish
from tests.left_run import leave_run


def test_a_bench_is_in_caafp_home_by_default(
    plan: BenchPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAAFP_HOME", str(tmp_path))
    assert BenchFolder.of(plan, "").path == tmp_path / "bench" / "pair"


class TestWhatIsThere:
    def test_only_a_finished_run_is_there(
        self, plan: BenchPlan, folder: BenchFolder, finish: Finish
    ) -> None:
        case = plan.cases[0]
        assert folder.progress(case, 1) == 0.0
        finish("dense", 1)
        finish("dense", 3, finished=False)
        assert [folder.has(case, seed) for seed in (1, 2, 3)] == [True, False, False]
        folder.check([(case, 1), (case, 2)])

    def test_other_settings_are_told_and_refused(
        self, folder: BenchFolder, finish: Finish, tmp_path: Path
    ) -> None:
        finish("caafp", 1)
        other = tmp_path / "other" / "pair.toml"
        other.parent.mkdir()
        other.write_text(FILE.replace("sparsity = 0.5", "sparsity = 0.6"), encoding="utf-8")
        case = read_bench(str(other)).cases[1]
        assert not folder.has(case, 1)
        assert folder.differences(case, 1) == ["sparsity is 0.5 there, 0.6 here"]
        with pytest.raises(SettingsError, match=r"sparsity is 0.5 there.*--force.*--output"):
            folder.check([(case, 1)])

    def test_neither_its_place_nor_a_setting_that_came_later_is_a_difference(
        self, plan: BenchPlan, folder: BenchFolder, finish: Finish
    ) -> None:
        path = finish("dense", 1) / "settings.json"
        found = json.loads(path.read_text())
        found |= {"output-dir": "/elsewhere", "run-name": "x", "track": "tensorboard"}
        del found["regrow"]
        path.write_text(json.dumps(found))
        assert folder.has(plan.cases[0], 1)
        found["a-setting-that-went"] = 3
        path.write_text(json.dumps(found))
        assert not folder.has(plan.cases[0], 1)


class TestKeeping:
    def test_an_ended_run_moves_and_leaves_nothing(
        self, plan: BenchPlan, folder: BenchFolder
    ) -> None:
        case = plan.cases[0]
        leave_run(folder.unfinished(case, 1), settings=case.at(1).to_dict())
        (folder.unfinished(case, 1).parent / "latest").symlink_to("1")
        assert 0.0 < folder.progress(case, 1) <= 1.0
        folder.keep(case, 1)
        assert folder.has(case, 1)
        assert sorted(path.name for path in folder.path.iterdir()) == ["runs"]

    def test_it_takes_the_place_of_an_older_one(
        self, plan: BenchPlan, folder: BenchFolder, finish: Finish
    ) -> None:
        old = finish("dense", 1)
        (old / "old").touch()
        case = plan.cases[0]
        leave_run(folder.unfinished(case, 1), settings=case.at(1).to_dict())
        folder.keep(case, 1)
        assert folder.has(case, 1)
        assert not (old / "old").exists()
        assert [path.name for path in old.parent.iterdir()] == ["1"]

    def test_one_without_an_end_is_not_kept(
        self, plan: BenchPlan, folder: BenchFolder, finish: Finish
    ) -> None:
        finish("dense", 1)
        case = plan.cases[0]
        leave_run(folder.unfinished(case, 1), finished=False)
        with pytest.raises(RunError, match=r"summary\.json, found nothing"):
            folder.keep(case, 1)
        assert folder.has(case, 1)
        folder.clear(case, 1)
        assert not folder.unfinished(case, 1).exists()


class TestWhoseFolder:
    def test_a_folder_of_something_else_is_left_alone(
        self, plan: BenchPlan, tmp_path: Path
    ) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.tex").touch()
        with pytest.raises(SettingsError, match="other files"):
            BenchFolder.of(plan, str(tmp_path / "mine"))
        with pytest.raises(SettingsError, match="other files"):
            BenchFolder.of(plan, str(tmp_path / "mine" / "thesis.tex"))

    def test_so_is_one_of_another_bench(self, plan: BenchPlan, tmp_path: Path) -> None:
        with BenchFolder.of(plan, str(tmp_path / "out")).opened(plan):
            pass
        BenchFolder.of(plan, str(tmp_path / "out"))  # its own it knows
        other = BenchPlan("other", plan.cases, plan.seeds, plan.all_seeds)
        with pytest.raises(SettingsError, match="those of the bench 'pair'"):
            BenchFolder.of(other, str(tmp_path / "out"))

    def test_one_at_a_time(self, plan: BenchPlan, folder: BenchFolder) -> None:
        with (
            folder.opened(plan),
            pytest.raises(SettingsError, match="another `caafp bench` works"),
            folder.opened(plan),
        ):
            pass
        with folder.opened(plan):  # it is free again
            card = json.loads((folder.path / "bench.json").read_text())
        assert [case["name"] for case in card["cases"]] == ["dense", "caafp"]
