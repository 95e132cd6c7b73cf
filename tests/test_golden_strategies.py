"""A whole run of each method of the comparison, against figures written down here.

Beside the golden run of CA-AFP (`test_golden`), on the same nine synthetic users in three planted
groups. Tolerances: accuracies 8 points (a window of one client is 0.7), bytes 3 %; sparsity and
the numbers of clients and clusters have none. A change that moves one by more has changed the
method or the wire: say why, and write the new ones down.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from caafp_app.client_app import app as client_app
from caafp_app.server_app import app as server_app
from caafp_app.settings.names import STRATEGIES
from caafp_app.strategies import factory
from tests.local_grid import LocalGrid
from tests.strategies.support import nodes, run

CONFIG: dict[str, Any] = {
    "seed": 42,
    "synthetic-users": 9,
    "synthetic-windows": 90,
    "warmup-rounds": 4,
    "cluster-rounds": 3,
    "prune-rounds": 5,
    "clients-per-round": 6,
    "clusters": 3,
    "recluster-every": 4,
    "local-epochs": 2,
    "finetune-epochs": 3,
    "learning-rate": 0.002,
    "sparsity": 0.7,
}
GOLDEN: dict[str, dict[str, Any]] = {
    "fedavg": {
        "cluster": 0.664,
        "personal": 0.917,
        "down": 18_030_000,
        "up": 16_050_000,
        "sparsity": 0.0,
        "clusters": [9],
    },
    "fedsnip": {
        "cluster": 0.566,
        "personal": 0.855,
        "down": 7_548_000,
        "up": 6_897_000,
        "sparsity": 0.7,
        "clusters": [9],
    },
    "efficientfl": {
        "cluster": 0.514,
        "personal": 0.856,
        "down": 4_064_000,
        "up": 3_624_000,
        "sparsity": 0.77836,
        "clusters": [9],
    },
    "fedchar": {
        "cluster": 0.980,
        "personal": 0.979,
        "down": 20_045_000,
        "up": 18_058_000,
        "sparsity": 0.0,
        "clusters": [3, 3, 3],
    },
    "clusterfl": {
        "cluster": 0.890,
        "personal": 0.910,
        "down": 20_071_000,
        "up": 16_053_000,
        "sparsity": 0.0,
        "clusters": [3, 3, 3],
    },
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_figures_are_those_written_down(name: str, tmp_path: Path) -> None:
    config = {**CONFIG, "strategy": name, "output-dir": str(tmp_path), "run-name": name}
    grid = LocalGrid(client_app, nodes(9), config, serialise=False)
    server_app(grid, Context(1, 1, {}, RecordDict(), config))
    summary = json.loads((tmp_path / "runs" / name / "summary.json").read_text())
    accuracy, golden = summary["accuracy"], GOLDEN[name]
    for model in ("cluster", "personal"):
        assert accuracy[model]["clients"] == 9
        assert accuracy[model]["mean"] == pytest.approx(golden[model], abs=0.08)
    for direction in ("down", "up"):
        assert summary["bytes"][direction] == pytest.approx(golden[direction], rel=0.03)
    assert summary["sparsity"]["personal_mean"] == pytest.approx(golden["sparsity"], abs=2e-5)
    assert summary["sparsity"]["cluster_mean"] == pytest.approx(golden["sparsity"], abs=2e-5)
    assert (summary["strategy"], summary["rounds"]) == (name, 12)
    assert summary["clusters"] == golden["clusters"]
    models = sorted(path.stem for path in (tmp_path / "runs" / name / "models").iterdir())
    assert len(models) == len(golden["clusters"])


def test_every_name_has_a_strategy_and_a_golden_run() -> None:
    assert tuple(factory.STRATEGIES) == STRATEGIES
    assert {"caafp", *GOLDEN} == set(STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_name_runs_with_lossy_codecs_too(name: str) -> None:
    codecs = {"up-dtype": "int8", "down-dtype": "float16", "rest-dtype": "float16"}
    done = run({"strategy": name, "average-last": 2, "evaluate-every": 4, **codecs})
    assert done.seen.report is not None
    for client in done.seen.report.clients:
        assert client.cluster_accuracy is not None
        assert client.personal_accuracy is not None
    rounds = [r for r in done.seen.rounds if r.phase not in ("cluster", "evaluate", "personalise")]
    assert [r.round for r in rounds if r.phase != "saliency"] == list(range(1, 9))
    assert not any(r.refused or r.missing for r in done.seen.rounds)
    losses = [r.loss for r in rounds if r.loss is not None]
    assert losses[-1] < losses[0]
