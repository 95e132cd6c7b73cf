"""The models of several runs on one device: which one is served, and which ones stay."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from caafp_app import cli
from caafp_app.devices.kept import Score, find_kept, how_many, keep, list_kept, use
from caafp_app.devices.personal import Card
from caafp_app.errors import DataError, SettingsError
from tests.devices.conftest import CLASSES
from tests.devices.test_personal import personalise

CARD = Card("pi", "har-cnn", (16, 3), CLASSES)


def kept_run(state: Path, run: str, accuracy: float, most: int = 5, name: str = "") -> str:
    """Keep a model whose one weight is how good it is."""
    card = replace(CARD, run=run, run_name=name)
    return keep(state, {"w": np.array([accuracy])}, card, by_weight, most)


def by_weight(arrays: object, card: Card) -> float | None:
    assert isinstance(arrays, dict)
    return float(arrays["w"][0])


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr(
        "caafp_app.devices.personal.time.strftime", lambda *_: f"2026-01-01T00:00:{next(ticks):02}Z"
    )


def test_a_poorer_run_does_not_take_the_place_of_a_better_one(tmp_path: Path) -> None:
    kept_run(tmp_path, "1", 0.5)
    assert "serves run 1 (79.0 %" in kept_run(tmp_path, "1", 0.79)  # in place of its own
    assert "still serves run 1 (79.0 %" in kept_run(tmp_path, "2", 0.55)
    assert find_kept(tmp_path).run == "1"
    said = kept_run(tmp_path, "3", 0.83)
    assert "serves run 3 (83.0 % of today's held-out windows) in place of run 1 (79.0 %" in said
    assert [one.run for one in list_kept(tmp_path)] == ["1", "2", "3"]
    kept_run(tmp_path, "0", 0.83)
    assert find_kept(tmp_path).run == "0"  # of equal ones the newest


def test_old_models_are_scored_again_on_the_windows_of_today(tmp_path: Path) -> None:
    kept_run(tmp_path, "1", 0.9)
    kept_run(tmp_path, "2", 0.6)

    def today(arrays: object, card: Card) -> float | None:
        return {"1": 0.5, "2": 0.7, "3": 0.6}[card.run]

    said = keep(tmp_path, {"w": np.array([0.1])}, replace(CARD, run="3"), today)
    assert "serves run 2 (70.0 %" in said


def test_without_windows_to_judge_by_the_newest_is_served_and_it_is_said(tmp_path: Path) -> None:
    nothing: Score = lambda arrays, card: None  # noqa: E731
    for run in ("1", "2"):
        said = keep(tmp_path, {"w": np.ones(1)}, replace(CARD, run=run), nothing)
    assert "serves run 2, the newest: there are no windows to judge by" in said


def test_a_model_that_this_version_cannot_build_does_no_harm(tmp_path: Path) -> None:
    kept_run(tmp_path, "1", 0.9)

    def today(arrays: object, card: Card) -> float | None:
        if card.run == "1":
            raise SettingsError("model: expected one of har-cnn, found 'other'")
        return by_weight(arrays, card)

    said = keep(tmp_path, {"w": np.array([0.6])}, replace(CARD, run="2"), today)
    assert "serves run 2 (60.0 %" in said
    assert len(list_kept(tmp_path)) == 2


def test_what_the_operator_chose_stays_until_given_back(tmp_path: Path) -> None:
    kept_run(tmp_path, "1", 0.6, name="first")
    kept_run(tmp_path, "2", 0.9)
    use(tmp_path, "first")
    assert "served stays run 1, which the operator chose" in kept_run(tmp_path, "3", 0.95)
    assert find_kept(tmp_path).run == "1"
    use(tmp_path, "best")
    kept_run(tmp_path, "4", 0.1)
    assert find_kept(tmp_path).run == "3"


def test_the_oldest_go_and_the_served_one_never(tmp_path: Path) -> None:
    kept_run(tmp_path, "1", 0.9, most=2)
    kept_run(tmp_path, "2", 0.5, most=2)
    said = kept_run(tmp_path, "3", 0.5, most=2)
    assert said.endswith("removed run 2, the oldest")
    assert [one.run for one in list_kept(tmp_path)] == ["1", "3"]
    kept_run(tmp_path, "4", 0.5, most=1)
    assert [one.run for one in list_kept(tmp_path)] == ["1", "4"]


@pytest.mark.parametrize("told", [0, -1, True, "3", 2.0])
def test_keep_personal_is_a_count(told: object) -> None:
    with pytest.raises(SettingsError, match="keep-personal: expected a whole number"):
        how_many({"keep-personal": told})  # type: ignore[dict-item]


def test_an_unknown_run_is_named_with_those_there_are(tmp_path: Path) -> None:
    kept_run(tmp_path, "1", 0.5, name="walks")
    with pytest.raises(DataError, match=r"run 'runs', found 0; there are: 1 walks"):
        find_kept(tmp_path, "runs")


def test_the_commands_list_choose_and_export(data: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    personalise({"data-path": str(data), "label": "pi", "state-dir": str(state)})
    (run,) = list_kept(state)
    where = ["--state-dir", str(state)]
    shown = CliRunner().invoke(cli.app, ["personal", "list", *where])
    assert f"* {run.run}" in shown.output
    assert "100.0 %" in shown.output
    chosen = CliRunner().invoke(cli.app, ["personal", "use", run.run, *where])
    assert chosen.output == f"run {run.run} predicts, whatever comes\n"
    told = ["personal", "export", "-f", "safetensors", "-o", str(tmp_path / "out"), *where]
    done = CliRunner().invoke(cli.app, told)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / f"personal-{run.run}.safetensors").is_file()
    words = ["predict", "--data", str(data), "--run", run.run, *where]
    assert CliRunner().invoke(cli.app, words).exit_code == 0
