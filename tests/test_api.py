from pathlib import Path

import pytest

import caafp_app
from caafp_app import api
from caafp_app.errors import RunError, SettingsError
from caafp_app.launch.start import End
from tests.left_run import leave_run


@pytest.fixture
def left(tmp_path: Path) -> api.Run:
    leave_run(tmp_path / "runs" / "one")
    return caafp_app.load_run("one", tmp_path)


def test_a_run_is_read_as_tables(left: api.Run) -> None:
    assert list(left.rounds["round"]) == [1, 2, 3, 4, 5, 6] or len(left.rounds) >= 6
    assert list(left.clients["personal_accuracy"]) == [0.5, 0.75, 1.0, 0.25]
    assert left.settings["strategy"] == "caafp"
    assert "personal accuracy" in repr(left)


@pytest.mark.parametrize("plot", [api.plot_rounds, api.plot_clients, api.plot_masks])
def test_figures_are_matplotlibs_and_leave_pyplot_alone(
    plot: object, left: api.Run, tmp_path: Path
) -> None:
    figure_module = pytest.importorskip("matplotlib.figure")
    figure = plot(left)  # type: ignore[operator]
    assert isinstance(figure, figure_module.Figure)
    figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_settings_are_checked_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "start", lambda *_: pytest.fail("it started"))
    with pytest.raises(SettingsError, match="did you mean 'sparsity'"):
        caafp_app.run("smoke", sparsty=0.5)


def test_a_run_returns_what_it_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, left: api.Run
) -> None:
    lines: list[str] = []
    seen = {}

    def start(prepared: object, say: object) -> End:
        seen["sparsity"] = prepared.settings.pruning.sparsity  # type: ignore[attr-defined]
        return End(str(left.path))

    monkeypatch.setattr(api, "start", start)
    found = caafp_app.run(
        "smoke", sparsity=0.25, local_epochs=2, output_dir=str(tmp_path), say=lines.append
    )
    assert (found.path, seen["sparsity"]) == (left.path, 0.25)
    assert any(line.startswith("data: ") for line in lines)
    monkeypatch.setattr(api, "start", lambda *_: End(str(left.path), "nobody came"))
    with pytest.raises(RunError, match="nobody came"):
        caafp_app.run("smoke", output_dir=str(tmp_path), say=lines.append)
