"""A device that took no part in a run predicts by the models of its run directory."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from caafp_app import cli
from caafp_app.devices.kept import find_kept
from caafp_app.devices.newcomer import predict_as_newcomer
from caafp_app.devices.personal import load_personal
from caafp_app.devices.predict import probabilities_by
from caafp_app.devices.requests import initial_arrays
from caafp_app.errors import RunError
from caafp_app.protocol.unlabelled import GENERAL, MARGIN, informed
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.tensors import read_tensors, write_tensors
from caafp_app.settings import Settings
from tests.devices.conftest import CONFIG
from tests.devices.test_personal import personalise


@pytest.fixture
def left(data: Path, tmp_path: Path) -> Path:
    """A run of two clusters: the model of one knows these windows, the other's was not trained."""
    state = tmp_path / "state"
    personalise({"data-path": str(data), "label": "pi", "state-dir": str(state)})
    trained, _ = load_personal(find_kept(state).folder)
    settings = Settings.from_run_config(CONFIG)
    run = RunDirectory(tmp_path / "run")
    run.write("settings", settings.to_dict())
    run.write_model("cluster-0", initial_arrays(settings))
    run.write_model("cluster-1", trained)
    clusters = {"0": {"members": ["a"], "examples": 3}, "1": {"members": ["b"], "examples": 1}}
    run.write("clusters", {"note": "", "clusters": clusters})
    return run.path


def test_a_cluster_that_knows_the_windows_is_chosen_without_labels(data: Path, left: Path) -> None:
    found, name = predict_as_newcomer(data, left)
    assert name == "the model of cluster 1"
    y = np.load(data / "walks.npz")["y"]
    assert found.classes == [("sit", "walk")[k] for k in y]
    done = CliRunner().invoke(cli.app, ["predict", "--data", str(data), "--models", str(left)])
    assert done.exit_code == 0
    assert found.to_csv() in done.output


def test_else_the_mean_by_the_members_examples(
    data: Path, left: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caafp_app.devices.newcomer.informed", lambda _: GENERAL)
    found, name = predict_as_newcomer(data, left)
    assert name == "the general model"
    first = initial_arrays(Settings.from_run_config(CONFIG))
    second, card = load_personal(find_kept(tmp_path / "state").folder)
    mean = {key: (0.75 * first[key] + 0.25 * second[key]).astype(np.float32) for key in first}
    windows = np.load(data / "walks.npz")["X"]
    np.testing.assert_allclose(
        found.probabilities, probabilities_by(mean, card, windows), atol=1e-6
    )


def test_a_folder_without_a_run_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"expected a run directory with settings\.json"):
        predict_as_newcomer(data, tmp_path)


def test_models_that_do_not_belong_together_are_refused(data: Path, left: Path) -> None:
    model = left / "models" / "cluster-1.safetensors"
    arrays, _ = read_tensors(model)
    name, first = next(iter(arrays.items()))
    for other, told in (
        ({name: first}, "cannot read models of one network in"),
        ({**arrays, name: first[:1]}, "cannot read models of one network in"),
        ({**arrays, name: first * np.nan}, "expected numbers in .* found NaN"),
    ):
        write_tensors(model, other)
        with pytest.raises(RunError, match=told):
            predict_as_newcomer(data, left)
    (left / "clusters.json").write_text('{"clusters": {}}')
    with pytest.raises(RunError, match=r"expected a cluster in .* found none"):
        predict_as_newcomer(data, left)


def test_a_cluster_has_to_be_ahead_by_the_margin() -> None:
    assert informed({GENERAL: 0.5, 0: 0.5 + 2 * MARGIN, 1: 0.4}) == 0
    assert informed({GENERAL: 0.5, 0: 0.5 + MARGIN / 2}) == GENERAL
    assert informed({GENERAL: 0.5}) == GENERAL
