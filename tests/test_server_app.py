"""The ServerApp around a run: checkpoints in the run directory, and resuming it."""

import json
import os
import signal
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from caafp_app.client_app import app
from caafp_app.errors import RunError, SettingsError
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.ending import told_to_end
from caafp_app.runs.lock import sole_writer
from caafp_app.runs.records import RoundRecord
from caafp_app.server_app import MAY_CHANGE, run
from caafp_app.settings import Settings
from caafp_app.strategies import MethodStrategy
from caafp_app.watch.view import Watcher
from tests.local_grid import LocalGrid
from tests.strategies.support import TINY, PowerCutError, nodes


def start(folder: Path, **changes: Any) -> Path:
    """Run in this process; return the run directory."""
    values = {"run-name": "one", **{k.replace("_", "-"): v for k, v in changes.items()}}
    config = {**TINY, "prune-rounds": 2, "output-dir": str(folder), **values}
    settings = Settings.from_run_config(config)
    count = settings.data.synthetic_users
    run(LocalGrid(app, nodes(count), config, serialise=False), settings)
    return folder / "runs" / str(config["run-name"])


def cut(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the power fail as a round is written down."""
    append = RunDirectory.append_round

    def failing(self: RunDirectory, record: RoundRecord) -> None:
        append(self, record)
        if record.round == number:
            raise PowerCutError

    monkeypatch.setattr(RunDirectory, "append_round", failing)


def records(folder: Path) -> list[tuple[int, str, Any]]:
    lines = (folder / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    return [(r["round"], r["phase"], r["accuracy"]) for r in map(json.loads, lines)]


def test_a_resumed_run_goes_on_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start(tmp_path / "whole")
    seen = Watcher(whole).look()
    told = json.loads((whole / "summary.json").read_text())
    assert sum(row.device.nbytes for row in seen.devices) == told["bytes"]["total"]
    accuracies = [row.device.accuracy or 0.0 for row in seen.devices]
    mean = sum(accuracies) / len(accuracies)
    assert mean == pytest.approx(told["accuracy"]["cluster"]["mean"], abs=1e-4)
    with monkeypatch.context() as patched:
        cut(patched, 3)
        with pytest.raises(PowerCutError):
            start(tmp_path / "cut")
    folder = tmp_path / "cut" / "runs" / "one"
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == ["round-0001.safetensors", "round-0002.safetensors"]
    assert records(folder)[-1][0] == 3

    with pytest.raises(RunError, match=r"^sparsity: expected 0\.7, as in the run to resume, found"):
        start(tmp_path / "cut", resume_from="latest", sparsity=0.8)
    with pytest.raises(SettingsError, match="expected the folder of a run"):
        start(tmp_path / "cut", resume_from="another")
    lines = (folder / "rounds.jsonl").read_bytes()
    with (
        sole_writer(folder, ""),
        pytest.raises(SettingsError, match="another run writes in"),
    ):
        start(tmp_path / "cut", resume_from="one")
    assert (folder / "rounds.jsonl").read_bytes() == lines

    # Some things may have changed meanwhile.
    start(tmp_path / "cut", resume_from="one", round_timeout=30.0, min_available_nodes=2)
    assert [path.name for path in folder.parent.iterdir() if not path.is_symlink()] == ["one"]
    assert records(folder) == records(whole)
    for name in ("clients.csv", "clusters.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    for kind in ("models", "masks"):
        for path in (whole / kind).iterdir():
            one, two = load_file(path), load_file(folder / kind / path.name)
            assert all(one[name].tobytes() == two[name].tobytes() for name in one | two)
    assert not (folder / "checkpoints").exists()
    summaries = [json.loads((f / "summary.json").read_text()) for f in (whole, folder)]
    assert summaries[1]["rounds"] == summaries[0]["rounds"] == 4
    assert summaries[1]["bytes"]["up"] >= summaries[0]["bytes"]["up"]
    with pytest.raises(RunError, match="expected a checkpoint to resume from"):
        start(tmp_path / "cut", resume_from="one")


def test_what_may_change_are_settings_or_arguments_of_strategies() -> None:
    arguments = {field.name for field in fields(MethodStrategy)}
    assert set(Settings().to_dict()) | arguments > MAY_CHANGE


def test_sigterm_is_noted_and_its_handler_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with told_to_end() as told:
        assert not told()
        os.kill(os.getpid(), signal.SIGTERM)
        assert told()
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_no_handler_is_set() -> None:
    seen: list[bool] = []

    def look() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with told_to_end() as told:
            seen.append(not told() and signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [True]
