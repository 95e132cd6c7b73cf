import csv
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from caafp_app.errors import RunError
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.files import plain
from caafp_app.runs.records import ClientRecord, RoundRecord, RunReport
from caafp_app.runs.summary import build_summary

NOW = datetime(2026, 3, 1, 14, 5, 9)


def create(root: Path | str, name: str = "") -> RunDirectory:
    return RunDirectory.create(root, name, strategy="caafp", dataset="uci-har", seed=42, now=NOW)


def test_a_run_without_a_name_is_named_by_time_and_method(tmp_path: Path) -> None:
    run = create(tmp_path)
    assert run.path == tmp_path / "runs" / "20260301-140509-caafp-uci-har-42"
    assert create(tmp_path, "mine").path.name == "mine"


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


def test_a_mask_is_written_with_its_metadata(tmp_path: Path) -> None:
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
    assert [json.loads(line) for line in lines] == [plain(vars(record)) for record in records]
    assert path.read_bytes().endswith(b"\n")


def test_clients_are_written_as_csv(tmp_path: Path) -> None:
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


def test_the_summary_has_the_keys_of_the_contract(tmp_path: Path, report: RunReport) -> None:
    settings = {"strategy": "caafp", "dataset": "synthetic", "seed": 1}
    RunDirectory(tmp_path).write("summary", build_summary(report, settings=settings, rounds=3))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {"strategy", "dataset", "seed", "rounds", "clients", "clusters"} <= summary.keys()
    for model in ("cluster", "personal"):
        assert {"mean", "std", "min"} <= summary["accuracy"][model].keys()
    assert {"personal_min", "cluster_mean"} <= summary["sparsity"].keys()
    assert {"down", "up", "total", "formula_total"} <= summary["bytes"].keys()
    assert {"total", "rounds", "startup"} <= summary["seconds"].keys()
