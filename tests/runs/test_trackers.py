import re
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from caafp_app.errors import RunError, SettingsError
from caafp_app.runs import trackers
from caafp_app.runs.ledger import Ledger
from caafp_app.runs.observer import Observer
from caafp_app.runs.reading import read_run
from caafp_app.runs.records import RoundRecord, RunReport
from caafp_app.runs.trackers import make_trackers, require_trackers
from caafp_app.settings import Settings
from tests.left_run import leave_run


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


def test_the_tracker_that_the_documentation_shows_records_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(import wandb.*?)^```$", page, re.M | re.S)
    wandb = MagicMock()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    names: dict[str, Any] = {}
    exec(compile(example, "python.md", "exec"), names)
    directory = leave_run(tmp_path / "one")
    observer = names["WandbObserver"](directory, {"seed": 7})
    assert wandb.init.call_args.kwargs["config"] == {"seed": 7}
    observer.on_round(record(3), 6)
    scalars, step = wandb.init().log.call_args.args[0], wandb.init().log.call_args.kwargs["step"]
    assert (scalars["rounds/accuracy"], step) == (0.3, 3)
    observer.on_finish(report_of(directory))
    assert "end/personal-accuracy-mean" in wandb.init().log.call_args.args[0]
    wandb.init().finish.assert_called_once()


def report_of(path: Path) -> RunReport:
    files = read_run(path)
    seconds = {"total": 1.0, "rounds": 1.0, "startup": 0.0}
    return RunReport(clients=tuple(files.clients), clusters={}, ledger=Ledger(), seconds=seconds)


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
