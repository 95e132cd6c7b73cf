import re
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from caafp_app.errors import RunError, SettingsError
from caafp_app.runs import trackers
from caafp_app.runs.observer import Observer
from caafp_app.runs.records import RunReport
from caafp_app.runs.tensorboard import TensorBoardObserver
from caafp_app.runs.trackers import make_trackers, require_trackers
from caafp_app.settings import Settings
from tests.runs.conftest import a_round


class Noting(Observer):
    """A tracker of another package, as the documentation shows one."""

    package = "json"
    made: tuple[object, ...] = ()

    def __init__(self, run: Path, settings: dict[str, object]) -> None:
        Noting.made = (run, settings["seed"])


def test_one_of_another_package_is_made_by_its_path(tmp_path: Path) -> None:
    path = f"{__name__}:Noting"
    require_trackers([path])
    made = make_trackers([path], tmp_path, {"seed": 7})
    assert type(made[0]).made == (tmp_path, 7)


def test_the_tracker_that_the_documentation_shows_records_a_run(
    tmp_path: Path, report: RunReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(import wandb.*?)^```$", page, re.M | re.S)
    wandb = MagicMock()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    names: dict[str, Any] = {}
    exec(compile(example, "python.md", "exec"), names)
    observer = names["WandbObserver"](tmp_path, {"seed": 7})
    assert wandb.init.call_args.kwargs["config"] == {"seed": 7}
    observer.on_round(a_round(3, accuracy=0.3), 6)
    scalars, step = wandb.init().log.call_args.args[0], wandb.init().log.call_args.kwargs["step"]
    assert (scalars["rounds/accuracy"], step) == (0.3, 3)
    observer.on_finish(report)
    assert "end/personal-accuracy-mean" in wandb.init().log.call_args.args[0]
    wandb.init().finish.assert_called_once()


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_package_that_is_missing_is_named_beforehand(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=rf"track={name} .*caafp-app\[{name}\]"):
        require_trackers([name])


def test_the_setting_takes_known_names_each_once() -> None:
    assert Settings.from_run_config({"track": "mlflow, tensorboard"}).run.trackers == (
        "mlflow",
        "tensorboard",
    )
    for wrong in ("mlflo", "mlflow,mlflow", "mlflow,"):
        with pytest.raises(SettingsError, match="track: expected names of"):
            Settings.from_run_config({"track": wrong})
    with pytest.raises(SettingsError, match='write track="tensorboard"'):
        Settings.from_run_config({"tensorboard": True})


def test_mlflow_is_read_back(tmp_path: Path, report: RunReport) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    settings = {"strategy": "caafp", "seed": 3, "sparsity": 0.7}
    observer = make_trackers(["mlflow"], tmp_path, settings)[0]
    observer.on_round(a_round(1, accuracy=0.1), 2)
    # A run that was interrupted and goes on has one record, not two.
    observer = make_trackers(["mlflow"], tmp_path, settings)[0]
    observer.on_round(a_round(2, accuracy=0.2), 2)
    observer.on_finish(report)

    client = MlflowClient(tracking_uri=(tmp_path / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("caafp")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params == {key: str(value) for key, value in settings.items()}
    assert found.data.metrics["end/personal-accuracy-mean"] == pytest.approx(0.875)
    history = client.get_metric_history(found.info.run_id, "rounds/accuracy")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.1), (2, 0.2)]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the event files as TensorBoard does."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulators.EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_scalars_are_written_by_round(tmp_path: Path, report: RunReport) -> None:
    pytest.importorskip("tensorboard")
    observer = TensorBoardObserver(tmp_path, {})
    same: dict[str, object] = {"refused": 1, "bytes_down": 3_000_000}
    later = same | {"density": {0: 0.5, 1: 0.25}}
    observer.on_round(a_round(1, "warm-up", accuracy=0.25, density={-1: 1.0}, **same), 2)
    observer.on_round(a_round(2, "cluster", accuracy=0.5, **later), 2)
    observer.on_round(a_round(2, "prune", **later), 2)
    during = scalars(tmp_path / "tensorboard")
    assert during["rounds/accuracy"] == [(1, 0.25)]  # on the disk before the end
    observer.on_finish(report)
    found = scalars(tmp_path / "tensorboard")
    assert found["cluster/accuracy"] == [(2, 0.5)]
    assert found["rounds/density-all"] == [(1, 1.0)]
    assert found["rounds/density-1"] == [(2, 0.25)]
    assert found["rounds/megabytes-down"] == [(1, 3.0), (2, 3.0)]
    assert found["rounds/clients-refused"] == [(1, 1.0), (2, 1.0)]
    assert "rounds/loss" not in found  # nobody reported one
    assert found["end/personal-accuracy-mean"] == [(2, pytest.approx(0.875))]
