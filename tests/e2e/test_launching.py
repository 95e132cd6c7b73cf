"""Launching that cannot lie, with real SuperLinks and Ray: slow."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
pytest.importorskip("ray")

RUN = [sys.executable, "-m", "caafp_app.cli", "run", "smoke"]
SHORT = {"warmup-rounds": 1, "cluster-rounds": 0, "prune-rounds": 2, "prune-every": 1}


def started(home: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """Start a short run with its results below a folder."""
    settings = SHORT | dict(argument.split("=", 1) for argument in arguments)
    return subprocess.Popen(
        [*RUN, *(f"{name}={value}" for name, value in settings.items()), "--json"],
        env=os.environ | {"CAAFP_HOME": str(home)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def test_two_runs_of_the_same_second_in_odd_environments_have_a_folder_each(
    tmp_path: Path,
) -> None:
    """A proxy that leads nowhere, and a terminal that knows ASCII alone, change nothing."""
    odd = {
        0.3: {"http_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"},
        0.6: {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
    }
    runs = {value: started(tmp_path, f"sparsity={value}", **odd[value]) for value in odd}
    for value, process in runs.items():
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        settings = json.loads((Path(out.strip()) / "settings.json").read_text(encoding="utf-8"))
        assert settings["sparsity"] == value


def test_a_run_that_nobody_answers_fails(tmp_path: Path) -> None:
    process = started(
        tmp_path, "round-timeout=25", "local-epochs=100000", "synthetic-users=2", "clusters=1"
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    # How far it gets before nobody answers depends on how fast the machine is.
    said = ("caafp: expected an update from somebody", "caafp: no client takes part")
    assert any(words in err for words in said), err


def test_nothing_outlives_a_launcher_that_is_killed(tmp_path: Path) -> None:
    process = started(tmp_path, "warmup-rounds=500")
    assert process.stderr is not None
    for line in process.stderr:
        if "round " in line:
            break
    children = _descendants(process.pid)
    assert len(children) > 3  # SuperLink, SuperExec, the simulation, Ray
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 60
    while (left := [pid for pid in children if Path(f"/proc/{pid}").exists()]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.5)
    assert left == []


def _descendants(pid: int) -> list[int]:
    found, queue = [], [pid]
    while queue:
        listing = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(queue.pop())], capture_output=True, text=True
        )
        children = [int(text) for text in listing.stdout.split()]
        found += children
        queue += children
    return found
