from pathlib import Path

import pytest

from caafp_app.errors import RunError, SettingsError
from caafp_app.runs import trackers
from caafp_app.runs.observer import Observer
from caafp_app.runs.records import RoundRecord, RunReport
from caafp_app.runs.trackers import make_trackers, require_trackers
from caafp_app.settings import Settings


class Noting(Observer):
    """A tracker of another package, as the documentation shows one."""

    package = "json"
    made: tuple[object, ...] = ()

    def __init__(self, run: Path, settings: dict[str, object]) -> None:
        Noting.made = (run, settings["seed"])


def record(number: int) -> RoundRecord:
    return RoundRecord(
        round=number, phase="prune", seconds=1.0, asked=2, answered=2, accuracy=number / 10
    )


def test_one_of_another_package_is_made_by_its_path(tmp_path: Path) -> None:
    path = f"{__name__}:Noting"
    require_trackers([path])
    made = make_trackers([path], tmp_path, {"seed": 7})
    assert type(made[0]).made == (tmp_path, 7)


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
        with pytest.raises(SettingsError, match="track: expected different names"):
            Settings.from_run_config({"track": wrong})
    with pytest.raises(SettingsError, match='write track="tensorboard"'):
        Settings.from_run_config({"tensorboard": True})


def test_mlflow_is_read_back(tmp_path: Path, report: RunReport) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    settings = {"strategy": "caafp", "seed": 3, "sparsity": 0.7}
    observer = make_trackers(["mlflow"], tmp_path, settings)[0]
    observer.on_round(record(1), 2)
    # A run that was interrupted and goes on has one record, not two.
    observer = make_trackers(["mlflow"], tmp_path, settings)[0]
    observer.on_round(record(2), 2)
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
