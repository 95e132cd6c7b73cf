import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from caafp_app.cli import app
from caafp_app.errors import RunError, SettingsError
from caafp_app.launch.presets import merged, read_preset
from caafp_app.settings import Settings
from caafp_app.tune import trial
from caafp_app.tune.search import VALIDATION, Search, search, table
from caafp_app.tune.space import read_space

pytest.importorskip("optuna")


def searched(*pairs: str) -> Search:
    space, fixed = read_space(pairs)
    return Search("smoke", read_preset("smoke"), fixed, space)


def peak(settings: Settings, name: str) -> float:
    """An accuracy that is best at a learning rate of .004 and four epochs."""
    rate, epochs = settings.train.learning_rate, settings.train.local_epochs
    return 1.0 - abs(rate - 0.004) * 50 - abs(epochs - 4) * 0.05


SPACE = ("learning-rate=0.0003..0.01", "local-epochs=1..6", "seed=3")


def test_it_goes_on_where_it_stopped_and_finds_better_settings(tmp_path: Path) -> None:
    what = searched(*SPACE)
    names: list[str] = []

    def interrupted(settings: Settings, name: str) -> float:
        assert settings.data.validation_fraction == VALIDATION  # never the test part
        names.append(name)
        if len(names) == 8:
            raise KeyboardInterrupt
        return peak(settings, name)

    with pytest.raises(KeyboardInterrupt):
        search(what, tmp_path, 20, interrupted)
    found = search(what, tmp_path, 20, peak)

    assert len(found) == 20
    preset = next(tried for tried in found if tried.number == 0)
    assert preset.values == what.start
    assert found[0].score > preset.score
    assert search(what, tmp_path, 20, lambda *_: pytest.fail("all are done")) == found
    best = merged(str(tmp_path / "best.toml"), [])
    assert best.train.learning_rate == found[0].values["learning-rate"]
    assert (best.run.seed, best.data.synthetic_users) == (3, 6)
    assert tomllib.loads((tmp_path / "best.toml").read_text())["preset"] == "smoke"
    assert "0 (the preset)" in (tmp_path / "table.md").read_text()


def test_the_same_seed_tries_the_same(tmp_path: Path) -> None:
    one, other = (search(searched(*SPACE), tmp_path / name, 8, peak) for name in "ab")
    assert one == other


def test_a_failed_run_is_kept_and_comes_last(tmp_path: Path) -> None:
    def sometimes(settings: Settings, name: str) -> float:
        if settings.train.local_epochs > 1:
            raise RunError("out of memory")
        return 0.5

    found = search(searched("local-epochs=1,2"), tmp_path, 6, sometimes)
    assert found[0].score == 0.5
    assert found[-1].complaint == "out of memory"
    assert "failed" in table(found)

    def always(settings: Settings, name: str) -> float:
        raise RunError("no luck")

    with pytest.raises(RunError, match="the first 3 runs have failed: no luck"):
        search(searched("local-epochs=1,2"), tmp_path / "other", 6, always)


def test_a_folder_has_one_search(tmp_path: Path) -> None:
    search(searched("local-epochs=1,2"), tmp_path, 1, peak)
    assert json.loads((tmp_path / "tune.json").read_text())["space"] == {"local-epochs": [1, 2]}
    with pytest.raises(SettingsError, match="found another one"):
        search(searched("local-epochs=1,3"), tmp_path, 2, peak)


def test_test_data_is_not_looked_at() -> None:
    with pytest.raises(SettingsError, match="validation-fraction: expected more than 0"):
        searched("local-epochs=1,2", "validation-fraction=0.0").settings({})


@pytest.mark.parametrize(("stop", "status"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_search_that_is_stopped_says_how_to_go_on(
    stop: BaseException, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> float:
        raise stop

    monkeypatch.setattr(trial, "run_trial", cut_off)
    told = CliRunner().invoke(app, ["tune", "smoke", "sparsity=0.5,0.8", f"--output={tmp_path}"])
    assert told.exit_code == status
    assert "caafp: stopped; run the same command again to go on" in told.stderr
