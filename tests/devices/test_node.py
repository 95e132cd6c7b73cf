"""``caafp node``: what it says of data, what it says will leave, and the line it prints."""

import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
from flwr.common.config import parse_config_args
from typer.testing import CliRunner

from caafp_app import cli
from caafp_app.client_app import app
from caafp_app.devices.check import check_data
from caafp_app.devices.node_config import as_line, device_config, write_file
from caafp_app.devices.rehearsal import rehearse
from caafp_app.errors import RunError, SettingsError
from caafp_app.settings import Settings
from tests.devices.conftest import CONFIG

PAIRS = [f"{key}={value}" for key, value in CONFIG.items()]


def node(*words: str) -> str:
    done = CliRunner().invoke(cli.app, ["node", "smoke", *PAIRS, *words])
    assert done.exit_code == 0, done.output
    return done.output


def test_it_counts_classes_and_remarks_on_what_may_be_a_mistake(data: Path) -> None:
    good = Settings.from_run_config(CONFIG | {"classes": "sit,walk"})
    assert check_data(good.data, {"data-path": str(data), "label": "pi"}).remarks == []
    x, y = np.load(data / "walks.npz")["X"].copy(), np.zeros(40, int)
    y[:4] = 1
    x[:, :, 1] = 3.0
    x[:, :, 2] *= 5000
    x[11] = x[10]
    np.savez(data / "walks.npz", X=x, y=y)
    settings = Settings.from_run_config(CONFIG)
    report = check_data(settings.data, {"data-path": str(data), "label": "pi"})
    assert report.train == {"sit": 29, "stand": 0, "walk": 4}
    assert report.test == {"sit": 7, "stand": 0, "walk": 0}
    assert report.seconds == pytest.approx(16 / 50)
    said = "\n".join(report.remarks)
    for words in (
        "no windows of stand",
        "fewer than 10 windows to learn walk",
        "no windows to test walk",
        "y never changes",
        "values are around",
        "standardise=client",
        "1 of 33 training windows are repeated",
    ):
        assert words in said
    assert "commonest" not in said


def test_what_is_said_to_leave_is_what_leaves(data: Path, tmp_path: Path) -> None:
    """Weights by the codec's law, no arrays where none should be, and no file anywhere."""
    settings = Settings.from_run_config({**CONFIG, "sparsity": 0.75, "up-dtype": "float16"})
    config = {"data-path": str(data), "label": "pi", "state-dir": str(tmp_path / "state")}
    rehearsal = rehearse(app, settings, config)
    assert not (tmp_path / "state").exists()
    names = [reply.name for reply in rehearsal.replies]
    dense, new_mask, sparse, gradient = rehearsal.replies[1:5]
    assert (names[0], names[1], names[-1]) == ("describe", "train, dense", "personalise")
    weights = 64 * 3 * 5 + 64 * 64 * 5 + 32 * 64 * 4 + 32 * 3
    assert dense.sent["values"] == pytest.approx(2 * weights, abs=200)
    assert sparse.sent["values"] == pytest.approx(0.25 * 2 * weights, rel=0.03)
    assert new_mask.received["mask"] == pytest.approx(weights / 8, abs=200)
    assert "mask" not in sparse.received
    assert gradient.sent["gradient-value"] > 2 * 0.05 * 0.2 * weights
    for light in (rehearsal.replies[0], rehearsal.replies[-1]):
        assert sum(light.sent.values()) < 1500
        assert not {"values", "rest", "arrays"} & light.sent.keys()
    told = {name for reply in rehearsal.replies for name in reply.fields}
    assert {"label", "num-examples", "personal-accuracy", "train-loss"} <= told
    # The peak of this process, so of the tests before this one too.
    assert rehearsal.memory_mb is None or rehearsal.memory_mb > 50


DENSE = 64 * 3 * 5 + 64 * 64 * 5 + 32 * 64 * 4 + 32 * 3
SMALL = 16 * 3 * 5 + 16 * 16 * 5 + 32 * 16 * 4 + 32 * 3
"""Prunable weights of the network, and of that with a quarter of its filters."""
SNIP = {"initial-sparsity": 0.75, "initial-mask": "snip"}
SPARSE = "train at density 0.25"
UPDATES = [f"{SPARSE}, with a new mask", SPARSE]


@pytest.mark.parametrize(
    ("changes", "between", "weights"),
    [
        (SNIP, ["saliency of one batch", *UPDATES, f"{SPARSE}, before a mask update"], DENSE),
        (SNIP | {"regrow": 0.0}, ["saliency of one batch", *UPDATES], DENSE),
        ({"granularity": "filter"}, ["train, dense", *UPDATES], DENSE),
        ({"sparsity": 0.0}, ["train, dense"], DENSE),
        ({"strategy": "fedsnip"}, ["saliency of one batch", *UPDATES], DENSE),
        ({"strategy": "fedavg", **SNIP}, ["train, dense"], DENSE),
        ({"strategy": "fedchar"}, ["train, dense"], DENSE),
        ({"strategy": "no_such_module:Own", **SNIP}, ["train, dense"], DENSE),
        ({"strategy": "clusterfl"}, ["train, dense, with its own model", "train, dense"], DENSE),
        ({"strategy": "efficientfl"}, ["train, dense"], SMALL),
    ],
    ids=lambda value: value.get("strategy", "caafp") if isinstance(value, dict) else "",
)
def test_the_requests_are_those_of_the_strategy(
    data: Path, changes: dict[str, object], between: list[str], weights: int
) -> None:
    settings = Settings.from_run_config(
        {**CONFIG, "sparsity": 0.75, "finetune-epochs": 1, **changes}
    )
    replies = rehearse(app, settings, {"data-path": str(data), "label": "pi"}).replies
    assert [reply.name for reply in replies] == ["describe", *between, "personalise"]
    assert replies[1].sent["values"] == pytest.approx(4 * weights, abs=200)
    assert "layout" in replies[1].received
    assert not any("layout" in reply.received for reply in replies[2:])
    if "saliency of one batch" in between:
        assert "rest" not in replies[1].sent
        assert not any("accuracy" in name for name in replies[1].fields)
    own = {reply.name: reply.received.get("arrays", 0) for reply in replies}
    for name, received in own.items():
        assert (received > 4 * weights) == name.endswith("own model")


def test_an_app_that_refuses_ends_it_with_the_reason(data: Path) -> None:
    settings = Settings.from_run_config(CONFIG)
    with pytest.raises(RunError, match=r"describe: expected an answer, found .*a file of \.npz"):
        rehearse(app, settings, {"data-path": str(data / "none.npz")})


def test_the_command_says_it_all(data: Path, tmp_path: Path) -> None:
    said = node("--data-path", str(data), "--label", "pi-1", "--state-dir", str(tmp_path / "s"))
    assert (
        "data of pi-1: 32 windows to train on, 8 to test by, each 16 samples (0.32 s) x 3" in said
    )
    assert re.search(r"^  sit +16 +4$", said, flags=re.MULTILINE)
    assert re.search(r"^  train, dense +\d{5,} +\d{5,} ", said, flags=re.MULTILINE)
    assert "memory: " in said
    assert "class of the server's" not in said
    own = node("strategy=no_such_module:Own", "--data-path", str(data), "--label", "pi-1")
    assert "note: no_such_module:Own is a class of the server's; shown is plain training" in own
    line = shlex.split(said.splitlines()[-1])
    assert line[0] == "--node-config"
    assert parse_config_args([line[1]]) == {
        "data-path": str(data),
        "label": "pi-1",
        "state-dir": str(tmp_path / "s"),
    }


def test_the_node_config_may_be_a_file(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    said = node("--data-path", str(data), "--no-rehearse", "--write", str(file))
    assert said.endswith(f"--node-config {file}\n")
    assert "bytes out" not in said
    assert parse_config_args([str(file)]) == {"data-path": str(data)}


def test_a_place_that_cannot_keep_the_personal_model_is_refused(data: Path) -> None:
    words = ["node", "smoke", *PAIRS, "--data-path", str(data), "--no-rehearse"]
    done = CliRunner().invoke(cli.app, [*words, "--state-dir", str(data / "walks.npz" / "a")])
    assert done.exit_code == 2
    assert "--state-dir: expected a folder that can be written" in done.output


def test_bad_data_ends_it_with_the_reason(data: Path) -> None:
    x = np.load(data / "walks.npz")["X"].copy()
    x[3, 2, 1] = np.nan
    np.savez(data / "walks.npz", X=x, y=np.zeros(40, int))
    words = ["node", "smoke", *PAIRS, "--data-path", str(data)]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 1
    assert "NaN or infinity in 1 of 40 windows, first in window 3" in done.output
    done = CliRunner().invoke(cli.app, ["node", "smoke", "--data-path", str(data / "none")])
    assert done.exit_code == 1
    assert "found nothing" in done.output


def test_flower_reads_the_line_and_the_file_as_they_were_meant(tmp_path: Path) -> None:
    key = Path("keys/anna.key")
    config = device_config(tmp_path / "my walks, 2 = two", "Pi 4 (kitchen)", Path("state"), key)
    assert config["key-path"] == str(key.absolute())
    assert "key-path" not in device_config(Path("/data"), "anna", None)
    assert parse_config_args([as_line(config)]) == config
    write_file(tmp_path / "node.toml", config)
    assert parse_config_args([str(tmp_path / "node.toml")]) == config
    assert tomllib.loads((tmp_path / "node.toml").read_text(encoding="utf-8")) == config
    assert Path(str(config["state-dir"])).is_absolute()
    with pytest.raises(SettingsError, match=r"ends in \.toml"):
        write_file(tmp_path / "node.json", config)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_what_flowers_notation_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="expected no quotes"):
        device_config(Path("/data") / name, "", None)
