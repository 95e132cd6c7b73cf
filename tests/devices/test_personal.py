"""The personal model: kept by the ClientApp, found by ``caafp predict``, whole or not there."""

import csv
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, MessageType
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from caafp_app import cli
from caafp_app.client_app import app
from caafp_app.devices import personal
from caafp_app.devices.kept import SERVED, find_kept, list_kept, state_folder, the_only_state
from caafp_app.devices.personal import Card, keep_personal, load_personal
from caafp_app.devices.predict import predict
from caafp_app.devices.requests import initial_arrays
from caafp_app.errors import CaafpError, DataError, RunError
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Request
from caafp_app.protocol.packing import pack_model
from caafp_app.settings import Settings
from tests.devices.conftest import CLASSES, CONFIG
from tests.local_grid import LocalGrid

CARD = Card("pi", "har-cnn", (16, 3), CLASSES)


def personalise(node_config: dict[str, Any], density: float = 0.5, **changes: Any) -> Message:
    """Ask a device to personalise a fresh model, sparse by chance."""
    config = {**CONFIG, **changes}
    grid = LocalGrid(app, [node_config], config)
    arrays = initial_arrays(Settings.from_run_config(config))
    layout = Layout.of(arrays)
    mask = Mask(layout, np.random.default_rng(0).random(layout.weight_count) < density)
    request = Request(
        Action.PERSONALISE,
        round=1,
        phase="personalise",
        mask_digest=mask.digest,
        layout=layout.to_json(),
        mask=mask.packed,
        arrays=pack_model(layout.flatten(arrays), mask, "float32", "float32"),
        evaluate=True,
    )
    (node,) = grid.contexts
    (reply,) = grid.send_and_receive([Message(request.to_records(), node, MessageType.TRAIN)])
    return reply


def test_a_device_finds_how_long_to_fine_tune_and_keeps_that(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pi"
    node = {"data-path": str(data), "label": "pi", "state-dir": str(folder)}
    reply = personalise(node, **{"finetune-epochs": "auto", "share-class-counts": True})
    assert not reply.has_error(), reply.error.reason
    card = find_kept(folder).card
    assert 0 < card.finetune_epochs <= 50
    assert card.personal_accuracy == 1.0
    (told,) = reply.content.metric_records.values()
    assert told["finetune-epochs"] == card.finetune_epochs
    counts = np.array(told["personal-confusion"]).reshape(len(CLASSES), -1)
    assert counts.sum() == counts.trace() == told["test-examples"]


def test_the_model_is_kept_with_its_card_and_not_sent(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "states" / "pi"
    reply = personalise({"data-path": str(data), "label": "pi", "state-dir": str(folder)})
    assert not reply.has_error(), reply.error.reason
    assert not reply.content.array_records
    (metrics,) = reply.content.metric_records.values()
    assert not any(isinstance(value, list) for value in metrics.values())
    (run,) = list_kept(folder)
    names = [personal.CARD, personal.MODEL, SERVED]
    assert sorted(path.name for path in folder.rglob("*.*")) == names
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*.*")} == {0o600}
    assert stat.S_IMODE(run.folder.stat().st_mode) == stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert run.served
    arrays, card = load_personal(run.folder)
    assert card.personal_accuracy == metrics["personal-accuracy"] == 1.0
    assert card.cluster_accuracy == metrics["cluster-accuracy"]
    assert (card.label, card.model, card.input_shape) == ("pi", "har-cnn", (16, 3))
    assert (card.class_names, card.channels, card.sampling_rate) == (CLASSES, ("x", "y", "z"), 50)
    assert (card.train_examples, card.test_examples) == (32, 8)
    weights = np.concatenate([arrays[f"{name}.weight"].ravel() for name in ("conv1", "conv2")])
    assert 0.45 < (weights == 0).mean() < 0.55
    assert card.sparsity == pytest.approx(0.5, abs=0.02)
    shown = json.loads((run.folder / personal.CARD).read_text(encoding="utf-8"))
    assert (shown["label"], shown["class_names"]) == ("pi", list(CLASSES))


def test_without_state_dir_it_is_in_the_home_by_label(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAAFP_HOME", str(tmp_path / "home"))
    assert state_folder({"partition-id": 0, "num-partitions": 2}, "user-00") is None
    assert not (tmp_path / "home").exists()
    personalise({"data-path": str(data), "label": "pi-7"})
    kept = tmp_path / "home" / "personal" / "pi-7"
    assert find_kept(kept).served
    assert the_only_state() == kept
    personalise({"data-path": str(data), "label": "pi-8"})
    with pytest.raises(DataError, match=r"found pi-7, pi-8; say which by --state-dir"):
        the_only_state()


@pytest.mark.parametrize("standardise", ["none", "client"])
def test_predictions_are_those_of_the_model_that_was_scored(
    data: Path, tmp_path: Path, standardise: str
) -> None:
    folder = tmp_path / "state"
    node = {"data-path": str(data), "label": "pi", "state-dir": str(folder)}
    personalise(node, standardise=standardise)
    found = predict(data, find_kept(folder).folder)
    y = np.load(data / "walks.npz")["y"]
    assert found.classes == [("sit", "walk")[k] for k in y]
    assert found.probabilities.shape == (40, 3)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0)
    card = find_kept(folder).card
    assert len(card.mean) == len(card.deviation) == (3 if standardise == "client" else 0)
    if standardise == "client":
        assert card.mean == pytest.approx([0.5] * 3, abs=0.1)


def test_the_command_writes_a_table(data: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "state", tmp_path / "classes.csv"
    personalise({"data-path": str(data), "label": "pi", "state-dir": str(folder)})
    # A recording without labels, columns in another order, one too many.
    x = np.load(data / "walks.npz")["X"][:2].reshape(-1, 3)
    lines = [f"{z},{t},{a},{b}" for t, (a, b, z) in enumerate(x)]
    (tmp_path / "today.csv").write_text("\n".join(["z,time,x,y", *lines]), encoding="utf-8")
    (tmp_path / "dataset.toml").write_text("sampling-rate = 50\nstride = 16\n", encoding="utf-8")
    words = ["predict", "--data", str(tmp_path / "today.csv"), "--state-dir", str(folder)]
    done = CliRunner().invoke(cli.app, [*words, "--output", str(output)])
    assert done.exit_code == 0, done.output
    assert done.output == "2 windows: sit 1, stand 0, walk 1\n"
    with output.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["class"] for row in rows] == ["sit", "walk"]
    assert float(rows[0]["sit"]) > 0.5
    shown = CliRunner().invoke(cli.app, words)
    assert shown.output == output.read_text(encoding="utf-8")
    for read, written in ((tmp_path / "today.csv",) * 2, (tmp_path, output)):
        words[2] = str(read)
        done = CliRunner().invoke(cli.app, [*words, "--output", str(written)])
        assert done.exit_code == 2
        assert "expected a file apart from --data" in done.output
    assert (tmp_path / "today.csv").read_text(encoding="utf-8").startswith("z,time,x,y")


def test_a_crash_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_personal(tmp_path, {"w": np.ones(3)}, CARD)

    def crash(self: Path, target: Path) -> Path:
        raise OSError("no power")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(RunError, match=r"state-dir .*no power"):
            keep_personal(tmp_path, {"w": np.zeros(3)}, replace(CARD, label="new"))
    arrays, card = load_personal(tmp_path)
    assert (arrays["w"].tolist(), card.label) == ([1.0, 1.0, 1.0], "pi")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_model_that_diverged_is_not_kept(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    node = {"data-path": str(data), "label": "pi", "state-dir": str(folder)}
    reply = personalise(node, **{"finetune-learning-rate": 1e30})
    assert "training diverged" in reply.error.reason
    assert not folder.exists()
    (tmp_path / "file").touch()  # no folder
    node = {"data-path": str(data), "label": "pi", "state-dir": str(tmp_path / "file")}
    assert "state-dir" in personalise(node).error.reason


def test_no_model_says_how_to_get_one(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="after its personalise phase"):
        predict(data, tmp_path)
    words = ["predict", "--data", str(data), "--state-dir", str(tmp_path)]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 1
    assert "found nothing" in done.output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "a model that is whole"),
        (lambda path: path.write_bytes(b"hello"), "a model that is whole"),
        (lambda path: save_file(load_file(path), path), "the model card"),
        (lambda path: _with_card(path, version=9), "expected version 2, found 9"),
        (lambda path: _with_card(path, input_shape=[16, -3]), "the model card"),
        (lambda path: _with_card(path, class_names=[]), "the model card"),
        (lambda path: _with_card(path, mean=[1.0]), "the model card"),
        (lambda path: _with_card(path, more=1), "the model card"),
        (lambda path: _with_card(path, written=5), "the model card"),
        (lambda path: _with_card(path, personal_accuracy="good"), "the model card"),
        (lambda path: _with_card(path, model="other"), "expected one of har-cnn.* found 'other'"),
        (lambda path: _with_card(path, input_shape=[32, 3]), "dense.weight|found"),
    ],
)
def test_a_damaged_model_is_refused(data: Path, tmp_path: Path, change: Any, message: str) -> None:
    folder = tmp_path / "state"
    personalise({"data-path": str(data), "label": "pi", "state-dir": str(folder)})
    run = find_kept(folder).folder
    change(run / personal.MODEL)
    with pytest.raises(CaafpError, match=message):
        predict(data, run)


def _with_card(path: Path, **changes: Any) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        card = json.loads(file.metadata()["caafp"])
    save_file(load_file(path), path, {"caafp": json.dumps(card | changes)})
