"""`caafp run`, killed with all it started in the middle of a run, and resumed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import caafp_app
from caafp_app.launch.processes import MARK, Family
from caafp_app.launch.source import checkout

pytestmark = pytest.mark.e2e

SETTINGS = {
    **{"synthetic_users": 4, "synthetic_windows": 30, "clients_per_round": 3, "clusters": 2},
    **{"warmup_rounds": 1, "cluster_rounds": 1, "prune_rounds": 4, "prune_every": 2},
    "engine": "batched",
}
RUN_SECONDS = 300.0


@contextmanager
def caafp_run(folder: Path, *more: str) -> Iterator[tuple["subprocess.Popen[str]", Family]]:
    """Start `caafp run smoke`; whatever is left of it is killed on leaving."""
    mark = uuid.uuid4().hex
    family = Family(mark)
    pairs = [f"{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    command = [sys.executable, "-m", "caafp_app.cli", "run", "smoke", *pairs, *more]
    with subprocess.Popen(
        [*command, f"output-dir={folder}"],
        env={**os.environ, "PYTHONPATH": str(checkout()), MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process, family
        finally:
            kill(family)


def kill(family: Family) -> None:
    """Kill at once and without a word, as a power cut does."""
    while members := family.members():
        for member in members:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
        time.sleep(0.05)


def test_killed_and_resumed_by_the_command_line(tmp_path: Path) -> None:
    caafp_app.run("smoke", **SETTINGS, output_dir=str(tmp_path), run_name="whole", say=str)
    with caafp_run(tmp_path, "run-name=cut") as (process, family):
        checkpoints = tmp_path / "runs" / "cut" / "checkpoints"
        deadline = time.monotonic() + RUN_SECONDS
        while not any(checkpoints.glob("round-0003*")):
            family.members()  # so that all are known when they lose their parents
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        kill(family)
    assert not (tmp_path / "runs" / "cut" / "summary.json").exists()
    kept = sorted(path.name for path in checkpoints.iterdir() if path.suffix == ".safetensors")
    assert len(kept) == 2
    with caafp_run(tmp_path, "resume-from=latest") as (process, _):
        said, _ = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 0, said
    assert "resumed after round" in said
    assert f"Results: {tmp_path / 'runs' / 'cut'}" in said

    whole, cut = tmp_path / "runs" / "whole", tmp_path / "runs" / "cut"
    assert not checkpoints.exists()
    for kind in ("models", "masks"):
        names = sorted(path.name for path in (whole / kind).iterdir())
        assert names == sorted(path.name for path in (cut / kind).iterdir())
        for name in names:
            one, two = load_file(whole / kind / name), load_file(cut / kind / name)
            assert all(one[key].tobytes() == two[key].tobytes() for key in one), name
    tables = [list(csv.DictReader((run / "clients.csv").open())) for run in (whole, cut)]
    assert tables[0] == tables[1]
    clusters = [json.loads((run / "clusters.json").read_text()) for run in (whole, cut)]
    assert clusters[0] == clusters[1]
    rounds = [
        [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
        for run in (whole, cut)
    ]
    told = [[(r["round"], r["phase"], r["accuracy"]) for r in records] for records in rounds]
    assert told[0] == told[1]
    summary = json.loads((cut / "summary.json").read_text())
    assert summary["rounds"] == 6
    assert summary["bytes"]["total"] >= sum(r["bytes_down"] + r["bytes_up"] for r in rounds[1])
