"""A whole run of each method, from the ServerApp to its files, against figures written down here.

Processors round differently, and training carries a difference on. What every processor gives is
held exactly: clusters, sparsity, rounds, clients and files. The rest has a band: accuracies 8
points (a window of one client is 0.7), the loss 0.15, bytes 3 %. A change that leaves a band has
changed the method or the wire: say why, and write the new figures down.
"""

import csv
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from safetensors.numpy import load_file

from caafp_app.client_app import app as client_app
from caafp_app.datasets.synthetic import planted_groups
from caafp_app.registry import STRATEGIES
from caafp_app.server_app import app as server_app
from caafp_app.server_app import initial_arrays
from caafp_app.settings import Settings
from tests.local_grid import LocalGrid
from tests.strategies.support import Run, bits_of, nodes, run

CONFIG: dict[str, Any] = {
    "seed": 42,
    "synthetic-users": 9,
    "synthetic-windows": 90,
    "warmup-rounds": 4,
    "cluster-rounds": 3,
    "prune-rounds": 5,
    "clients-per-round": 6,
    "clusters": 3,
    "local-epochs": 2,
    "finetune-epochs": 3,
    "learning-rate": 0.002,
    "sparsity": 0.7,
}
OWN: dict[str, dict[str, Any]] = {
    "caafp": {"clusters": 0, "prune-rounds": 6, "prune-every": 2},
    "clusterfl": {"strategy-args": "every=4"},
}
"""In what a method's run differs from `CONFIG`."""


@dataclass(frozen=True)
class Golden:
    """Accuracies of cluster and personal models, MB down and up, sparsity, sizes of clusters."""

    cluster: float
    personal: float
    down: float
    up: float
    sparsity: float
    clusters: tuple[int, ...]


GOLDEN = {
    "caafp": Golden(0.931, 0.931, 15.280, 14.568, 0.7, (3, 3, 3)),
    "fedavg": Golden(0.664, 0.917, 18.030, 16.050, 0.0, (9,)),
    "fedsnip": Golden(0.566, 0.855, 7.548, 6.897, 0.7, (9,)),
    "efficientfl": Golden(0.514, 0.856, 4.064, 3.624, 0.77836, (9,)),
    "fedchar": Golden(0.980, 0.979, 20.045, 18.058, 0.0, (3, 3, 3)),
    "clusterfl": Golden(0.890, 0.910, 20.071, 16.053, 0.0, (3, 3, 3)),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


def folder_of(name: str, home: Path) -> Path:
    """Run both apps against each other in this process, once for each method."""
    folder = home / "runs" / name
    if not folder.exists():
        config = CONFIG | OWN.get(name, {}) | {"strategy": name, "run-name": name}
        config |= {"output-dir": str(home)}
        grid = LocalGrid(client_app, nodes(9), config, serialise=name == "caafp")
        server_app(grid, Context(1, 1, {}, RecordDict(), config))
    return folder


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def rounds(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_figures_of_a_run_are_those_written_down(name: str, home: Path) -> None:
    folder, golden = folder_of(name, home), GOLDEN[name]
    summary = read(folder, "summary.json")
    accuracy = summary["accuracy"]
    assert accuracy["split"] == "test"
    for model in ("cluster", "personal"):
        assert accuracy[model]["clients"] == 9
        assert accuracy[model]["mean"] == pytest.approx(getattr(golden, model), abs=0.08)
    for direction in ("down", "up"):
        expected = 1e6 * getattr(golden, direction)
        assert summary["bytes"][direction] == pytest.approx(expected, rel=0.03)
    for kind in ("personal_mean", "personal_min", "cluster_mean"):
        assert summary["sparsity"][kind] == pytest.approx(golden.sparsity, abs=2e-5)
    assert (summary["strategy"], summary["clients"]) == (name, 9)
    assert summary["rounds"] == (13 if name == "caafp" else 12)
    assert tuple(summary["clusters"]) == golden.clusters
    assert len(list((folder / "models").iterdir())) == len(golden.clusters)


ONE_LEVEL = ("heterofl", "cahfp")
"""With one level for all, as here, these two are FedAvg."""


@cache
def lossy(name: str) -> Run:
    """A short run of a method, with codecs that round."""
    codecs = {"up-dtype": "int8", "down-dtype": "float16", "rest-dtype": "float16"}
    return run({"strategy": name, "average-last": 2, "evaluate-every": 4, **codecs})


def test_every_name_has_a_golden_run_or_that_of_fedavg() -> None:
    assert {*GOLDEN, *ONE_LEVEL} == set(STRATEGIES.builtin)
    for name in ONE_LEVEL:
        assert bits_of(lossy(name).result) == bits_of(lossy("fedavg").result)


@pytest.mark.parametrize("name", STRATEGIES.builtin)
def test_every_name_runs_with_lossy_codecs_too(name: str) -> None:
    done = lossy(name)
    assert done.seen.report is not None
    for client in done.seen.report.clients:
        assert client.cluster_accuracy is not None
        assert client.personal_accuracy is not None
        assert client.personal_f1 is not None
    rounds = [r for r in done.seen.rounds if r.phase not in ("cluster", "evaluate", "personalise")]
    assert [r.round for r in rounds if r.phase != "saliency"] == list(range(1, 9))
    assert not any(r.refused or r.missing for r in done.seen.rounds)
    losses = [r.loss for r in rounds if r.loss is not None]
    assert losses[-1] < losses[0]


# -- the files of the method itself --------------------------------------------------------


def test_the_clusters_are_the_planted_groups(home: Path) -> None:
    clusters = read(folder_of("caafp", home), "clusters.json")["clusters"]
    found = [set(cluster["members"]) for cluster in clusters.values()]
    groups = planted_groups(Settings.from_run_config(CONFIG).data)
    planted = [{f"user-{k:02d}" for k in np.flatnonzero(groups == g)} for g in range(3)]
    assert sorted(found, key=min) == sorted(planted, key=min)


def test_the_model_learns_and_the_masks_get_sparser(home: Path) -> None:
    trained = [
        r
        for r in rounds(folder_of("caafp", home))
        if r["phase"] in ("warm-up", "cluster-warm-up", "prune")
    ]
    assert [r["round"] for r in trained] == list(range(1, 14))
    assert trained[-1]["loss"] == pytest.approx(0.311, abs=0.15)
    assert trained[0]["accuracy"] < 0.5 < 0.8 < trained[-1]["accuracy"]
    densities = [min(r["density"].values()) for r in trained]
    assert densities == sorted(densities, reverse=True)
    assert [r["round"] for r in trained if r["mask_updated"]] == [7, 9, 11]
    assert densities[5] == 1.0
    assert densities[-1] == pytest.approx(0.3, abs=2e-5)


def test_the_files_hold_what_the_summary_says(home: Path) -> None:
    folder = folder_of("caafp", home)
    summary, clusters = read(folder, "summary.json"), read(folder, "clusters.json")["clusters"]
    with (folder / "clients.csv").open() as file:
        clients = list(csv.DictReader(file))
    assert [row["label"] for row in clients] == [f"user-{k:02d}" for k in range(9)]
    for kind in ("cluster", "personal"):
        mean = np.mean([float(row[f"{kind}_accuracy"]) for row in clients])
        assert mean == pytest.approx(summary["accuracy"][kind]["mean"])
    order = [n for n, a in initial_arrays(Settings.from_run_config(CONFIG)).items() if a.ndim >= 2]
    for number, cluster in clusters.items():
        arrays = load_file(folder / "models" / f"cluster-{number}.safetensors")
        packed = load_file(folder / "masks" / f"cluster-{number}.safetensors")["mask"]
        weights = np.concatenate([arrays[name].reshape(-1) for name in order])
        bits = np.unpackbits(packed, count=weights.size, bitorder="little").astype(bool)
        assert weights[bits].all()
        assert not weights[~bits].any()
        assert bits.mean() == pytest.approx(cluster["density"]) == pytest.approx(0.3, abs=2e-5)
    total = sum(r["bytes_down"] + r["bytes_up"] for r in rounds(folder))
    assert 0 < summary["bytes"]["total"] - total < 10_000  # describing themselves is no round
    assert read(folder, "settings.json")["seed"] == 42
