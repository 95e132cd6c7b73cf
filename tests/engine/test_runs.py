"""Whole runs by the stacked engine, against clients that are trained one after another."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from caafp_app import server_app
from caafp_app.client.tasks import network_on
from caafp_app.engine.answer import Perform, answer_all
from caafp_app.engine.grid import BatchedGrid
from caafp_app.engine.perform import Together, one_by_one
from caafp_app.models import build_model
from caafp_app.registry import STRATEGIES
from caafp_app.runs.reading import RunFiles, read_run
from caafp_app.settings import Settings
from caafp_app.training import MOST_EPOCHS

CONFIG: dict[str, Any] = {
    "seed": 5,
    "synthetic-users": 6,
    "synthetic-windows": 25,
    "warmup-rounds": 1,
    "cluster-rounds": 1,
    "prune-rounds": 3,
    "prune-every": 1,
    "clients-per-round": 5,
    "clusters": 2,
    "local-epochs": 2,
    "finetune-epochs": "auto",
    "checkpoint-every": 0,
}


def run(folder: Path, name: str, perform: Perform, **changes: Any) -> RunFiles:
    config = {**CONFIG, **changes, "output-dir": str(folder), "run-name": name}
    settings = Settings.from_run_config(config)
    grid = BatchedGrid(settings, 6, partial(answer_all, perform=perform))
    server_app.run(grid, settings)
    return read_run(folder / "runs" / name)


@pytest.mark.parametrize("strategy", STRATEGIES.builtin)
def test_a_run_of_stacked_clients_is_that_of_one_client_after_another(
    strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_dropout(*args: Any, **kwargs: Any) -> torch.nn.Module:
        model = build_model(*args, **kwargs)
        model.drop_conv.p = model.drop_dense.p = 0.0
        return model

    monkeypatch.setattr("caafp_app.client.tasks.build_model", without_dropout)
    network_on.cache_clear()
    alone = run(tmp_path, "alone", one_by_one("cpu"), strategy=strategy)
    stacked = run(tmp_path, "stacked", Together("cpu"), strategy=strategy)
    assert alone.summary["clusters"] == stacked.summary["clusters"]
    assert alone.summary["bytes"]["down"] == pytest.approx(stacked.summary["bytes"]["down"], 0.01)
    for one, other in zip(alone.clients, stacked.clients, strict=True):
        # How many is for `test_stacked`: here rounding adds up before.
        for client in (one, other):
            assert client.finetune_epochs in range(MOST_EPOCHS + 1)
    for kind, scores in alone.summary["accuracy"].items():
        if isinstance(scores, dict):
            # A window of a client's five is 3 points of the mean over six clients.
            assert scores["mean"] == pytest.approx(
                stacked.summary["accuracy"][kind]["mean"], abs=0.07
            )
    for one, other in zip(alone.rounds, stacked.rounds, strict=True):
        assert one["answered"] == other["answered"]
        # Where masks change, a weight near the border may be pruned in one of them alone.
        near = 0.1 if strategy == "caafp" and one["round"] > 2 else 0.02
        assert one["loss"] == pytest.approx(other["loss"], abs=near)
    network_on.cache_clear()
