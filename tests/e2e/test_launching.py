"""Launching that cannot lie, with real SuperLinks and Ray: slow."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path

import pytest
from safetensors.numpy import load_file

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


def test_two_runs_of_the_same_second_have_a_folder_each_and_the_same_numbers(
    tmp_path: Path,
) -> None:
    """`flwr run` with a proxy that leads nowhere, in a terminal of ASCII alone, and our engine."""
    odd = {"http_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    odd |= {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    runs = [started(tmp_path, "engine=ray", **odd), started(tmp_path, "engine=batched")]
    folders = []
    for process in runs:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        folders.append(Path(out.splitlines()[-1]))
    engines = [json.loads((folder / "settings.json").read_text())["engine"] for folder in folders]
    assert engines == ["ray", "batched"]
    tables = [(folder / "clients.csv").read_text() for folder in folders]
    assert tables[0] == tables[1]
    for name in ("masks/cluster-0.safetensors", "models/cluster-0.safetensors"):
        one, two = (load_file(folder / name) for folder in folders)
        assert all(one[key].tobytes() == two[key].tobytes() for key in one), name


def test_nothing_outlives_a_launcher_that_is_killed(tmp_path: Path) -> None:
    process = started(tmp_path, "warmup-rounds=500")
    assert process.stderr is not None
    said = list(takewhile(lambda line: "answered: " not in line, process.stderr))
    children = _descendants(process.pid)
    assert len(children) > 3, said  # SuperLink, SuperExec, the simulation, Ray
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
