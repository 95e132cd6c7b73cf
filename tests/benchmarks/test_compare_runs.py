"""`compare_runs`: silent on equal runs, and exact about what differs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.compare_runs import compare
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.tensors import read_tensors
from tests.left_run import leave_run

ROOT = Path(__file__).resolve().parents[2]


def two_runs(folder: Path) -> tuple[Path, Path]:
    runs = leave_run(folder / "old"), leave_run(folder / "new")
    for run in runs:
        RunDirectory(run).write_model("cluster-0", {"w": np.arange(4.0)})
    return runs


def edit_line(run: Path, **changes: object) -> None:
    path = run / "rounds.jsonl"
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | changes), *rest, ""]))


def test_two_equal_runs_have_no_differences_whatever_their_seconds(tmp_path: Path) -> None:
    old, new = two_runs(tmp_path)
    edit_line(new, seconds=99.0, server_memory_mb=5.0)
    assert compare(old, new) == []


def test_a_changed_client_line_count_mask_and_weight_are_each_named(tmp_path: Path) -> None:
    old, new = two_runs(tmp_path)
    path = new / "clients.csv"
    path.write_text(path.read_text().replace("0.75", "0.7500000000000001"))
    edit_line(new, bytes_by_kind={"up": {"values": 7}}, answered=5)
    told = read_tensors(new / "masks" / "cluster-0.safetensors").metadata
    RunDirectory(new).write_mask("cluster-0", np.array([0b00001110], dtype=np.uint8), told)
    RunDirectory(new).write_model("cluster-0", {"w": np.array([0, 1, 2, np.nextafter(3, 4)])})
    found = "\n".join(compare(old, new))
    assert "clients.csv user-01.personal_accuracy: '0.75' became '0.7500000000000001'" in found
    assert "rounds.jsonl line 1.answered: " in found
    assert "rounds.jsonl line 1.bytes_by_kind.up.values: in NEW only, 7" in found
    assert "masks/cluster-0.safetensors mask: 1 of 1 differ, the first at 0" in found
    assert "models/cluster-0.safetensors w: 1 of 4 differ, the first at 3" in found
    assert len(found.splitlines()) == 5


def test_a_field_of_one_side_is_ignored_only_by_its_name(tmp_path: Path) -> None:
    old, new = two_runs(tmp_path)
    edit_line(new, fresh=1)
    assert compare(old, new) == ["rounds.jsonl line 1.fresh: in NEW only, 1"]
    assert compare(old, new, ["fresh"]) == []
    edit_line(old, fresh=2)
    assert compare(old, new, ["fresh"]) == ["rounds.jsonl line 1.fresh: 2 became 1"]


def test_folders_of_runs_are_compared_run_by_run(tmp_path: Path) -> None:
    for side in ("a", "b"):
        leave_run(tmp_path / side / "runs" / "case" / "1")
    leave_run(tmp_path / "b" / "runs" / "case" / "2")
    assert compare(tmp_path / "a", tmp_path / "b") == ["runs/case/2: a run in NEW only"]
    assert "settings.json" in compare(tmp_path / "a", tmp_path / "none")[0]


def test_the_command_ends_with_1_where_something_differs(tmp_path: Path) -> None:
    old, new = two_runs(tmp_path)
    words = [sys.executable, "-m", "benchmarks.compare_runs", str(old), str(new)]
    same = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (same.returncode, same.stdout) == (0, "the same, to the last digit: 1 runs\n")
    edit_line(new, answered=1)
    other = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert "answered: 2 became 1" in other.stdout
