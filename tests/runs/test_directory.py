import csv
import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from caafp_app.errors import RunError, SettingsError
from caafp_app.runs import directory as module
from caafp_app.runs.directory import SUMMARY_KEYS, RunDirectory, check_name, default_home
from caafp_app.runs.files import append_line, plain, write_atomic, write_json
from caafp_app.runs.records import ClientRecord, RoundRecord, RunReport
from caafp_app.runs.summary import build_summary

NOW = datetime(2026, 3, 1, 14, 5, 9)


def create(root: Path | str, name: str = "") -> RunDirectory:
    return RunDirectory.create(root, name, strategy="caafp", dataset="uci-har", seed=42, now=NOW)


def test_default_name_unique_and_latest(tmp_path: Path) -> None:
    first, second = create(tmp_path), create(tmp_path)
    assert first.path == tmp_path / "runs" / "20260301-140509-caafp-uci-har-42"
    assert second.path == first.path.with_name(first.path.name + "-2")
    latest = tmp_path / "runs" / "latest"
    assert latest.readlink() == Path(second.path.name)
    assert latest.samefile(second.path)
    assert create(tmp_path, "mine").path.name == "mine"
    assert create(tmp_path, "mine").path.name == "mine-2"
    assert latest.resolve().name == "mine-2"
    assert not [p for p in latest.parent.iterdir() if p.name.startswith(".")]


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAAFP_HOME", str(tmp_path / "kept"))
    assert default_home() == tmp_path / "kept"
    assert create("").path.parent == tmp_path / "kept" / "runs"
    monkeypatch.setenv("CAAFP_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_home() == tmp_path / ".caafp"


def test_latest_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", refuse)
        run = create(tmp_path)
    runs = tmp_path / "runs"
    assert (runs / "latest.txt").read_text() == run.path.name + "\n"
    assert not (runs / "latest").exists()
    create(tmp_path)
    assert (runs / "latest").is_symlink()
    assert not (runs / "latest.txt").exists()


def test_latest_does_not_remove_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "runs" / "latest" / "kept").mkdir(parents=True)
    run = create(tmp_path)
    assert (tmp_path / "runs" / "latest" / "kept").is_dir()
    assert (tmp_path / "runs" / "latest.txt").read_text().strip() == run.path.name


@pytest.mark.parametrize(
    "name",
    ["../up", "a/b", "a\\b", "/abs", ".", "..", ".hidden", "latest", "latest.txt", "a b", "a\n",
     "ends.", "x" * 121, "a\0b", "ü:"],
)  # fmt: skip
def test_names_that_could_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="run-name must be a file name"):
        create(tmp_path, name)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SettingsError, match="model"):
        RunDirectory(tmp_path).write_model(name, {"w": np.zeros(1)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a", "A-1.b_c", "x" * 120, "k=3,seed+1@home", "_x"])
def test_plain_names(name: str) -> None:
    assert check_name(name, "run-name") == name


def test_output_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="output-dir"):
        create(tmp_path / "file")


@pytest.mark.parametrize(
    "array",
    [
        np.array(3.5, dtype="f4"),
        np.zeros((0, 4), dtype="f2"),
        np.arange(12, dtype="f8").reshape(3, 4).T,
        np.arange(10, dtype="i8")[::3],
        np.array([True, False]),
        np.arange(4, dtype=">f4"),
        np.arange(5, dtype="u1"),
        np.arange(5, dtype="i2"),
    ],
    ids=lambda array: f"{array.dtype.str}-{array.shape}",
)
def test_models_of_any_layout(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    path = RunDirectory(tmp_path).write_model("cluster-0", {"w": array, "b": array + array})
    assert path == tmp_path / "models" / "cluster-0.safetensors"
    found = load_file(path)
    np.testing.assert_array_equal(found["w"], array)
    np.testing.assert_array_equal(found["b"], array + array)
    assert found["w"].shape == array.shape
    assert found["w"].dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([None]), np.zeros(2, dtype="c16")])
def test_models_refuse_what_is_no_number(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(RunError, match="'w' has dtype"):
        RunDirectory(tmp_path).write_model("m", {"w": array})
    assert not list(tmp_path.iterdir())


def test_mask(tmp_path: Path) -> None:
    bits = np.array([3, 255], dtype=np.uint8)
    path = RunDirectory(tmp_path).write_mask("cluster-1", bits, {"mask-digest": "ab"})
    assert path == tmp_path / "masks" / "cluster-1.safetensors"
    np.testing.assert_array_equal(load_file(path)["mask"], bits)
    with safe_open(path, framework="np") as file:
        assert file.metadata() == {"mask-digest": "ab"}


def test_rounds_survive_a_crash_in_the_middle_of_a_line(tmp_path: Path) -> None:
    run = create(tmp_path)
    path = run.path / "rounds.jsonl"
    records = [
        RoundRecord(round=n, phase="warm-up", seconds=0.5, asked=2, answered=2, density={0: 1.0})
        for n in (1, 2, 3)
    ]
    for record in records[:2]:
        run.append_round(record)
    with path.open("ab") as file:
        file.write(b'{"round": 3, "pha')
    RunDirectory(run.path).append_round(records[2])
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [record.to_json() for record in records]
    assert path.read_bytes().endswith(b"\n")


def test_append_after_only_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"torn")
    append_line(path, "whole")
    assert path.read_bytes() == b"whole\n"
    with pytest.raises(RunError, match="line break"):
        append_line(path, "a\nb")


def test_atomic_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for target, name in ((os, "fsync"), (Path, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, fail)
            with pytest.raises(RunError, match=r"summary\.json: No space left"):
                write_atomic(path, b"new")
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_failed_replace_is_seen_while_the_name_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the rename, a reader of the name sees the whole old file."""
    path, seen = tmp_path / "a.json", []
    write_json(path, {"version": 1})
    real = Path.replace

    def watch(self: Path, target: Path) -> Path:
        seen.append((json.loads(path.read_text()), json.loads(self.read_text())))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", watch)
    write_json(path, {"version": 2})
    assert seen == [({"version": 1}, {"version": 2})]
    assert json.loads(path.read_text()) == {"version": 2}


def test_json_form(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"z": float("nan"), "a": (1, np.float32(0.5)), 3: {"b", "a"}, "p": Path("x")})
    assert path.read_text() == (
        '{\n  "z": null,\n  "a": [\n    1,\n    0.5\n  ],\n'
        '  "3": [\n    "a",\n    "b"\n  ],\n  "p": "x"\n}\n'
    )
    assert plain([True, np.bool_(False), np.int64(2), -np.inf, "é"]) == [True, False, 2, None, "é"]
    with pytest.raises(RunError, match="ndarray"):
        plain({"a": np.zeros(3)})


def test_clients_csv(tmp_path: Path) -> None:
    clients = [
        ClientRecord(label='odd, "label"', cluster=0, examples=3, cluster_accuracy=1 / 3),
        ClientRecord(label="b", cluster=-1, examples=2, personal_accuracy=float("nan")),
    ]
    RunDirectory(tmp_path).write_clients(clients)
    with (tmp_path / "clients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ['odd, "label"', "b"]
    assert float(rows[0]["cluster_accuracy"]) == 1 / 3
    assert rows[1]["personal_accuracy"] == rows[1]["cluster_loss"] == ""
    assert rows[1]["cluster"] == "-1"


def test_summary_must_be_complete(tmp_path: Path, report: RunReport) -> None:
    run = RunDirectory(tmp_path)
    settings = {"strategy": "caafp", "dataset": "synthetic", "seed": 1}
    summary = build_summary(report, settings=settings, rounds=3)
    for key in SUMMARY_KEYS:
        broken = json.loads(json.dumps(summary))
        *parents, last = key.split(".")
        level = broken
        for parent in parents:
            level = level[parent]
        del level[last]
        with pytest.raises(RunError, match=f"lacks {re.escape(key)}"):
            run.write_summary(broken)
    assert not list(tmp_path.iterdir())
    run.write_summary(summary)
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads(json.dumps(summary))


def test_required_keys_are_those_of_the_contract() -> None:
    accuracy = {
        f"accuracy.{m}.{s}" for m in ("cluster", "personal") for s in ("mean", "std", "min")
    }
    assert set(module.SUMMARY_KEYS) == accuracy | {
        *("strategy", "dataset", "seed", "rounds", "clients", "clusters"),
        *("sparsity.personal_min", "sparsity.cluster_mean"),
        *("bytes.down", "bytes.up", "bytes.total", "bytes.formula_total"),
        *("seconds.total", "seconds.rounds", "seconds.startup"),
    }
