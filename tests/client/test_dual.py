"""A second model of each client, near its cluster's: when it is trained, and from where."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, RecordDict

from caafp_app.client.finetune import Trained
from caafp_app.client.objectives import PULL, objective_of
from caafp_app.client.tasks import Fit, Fitted, Network
from caafp_app.client.work import Work
from caafp_app.datasets.base import ClientData
from caafp_app.devices.personal import OWN_FILE, keep_own, load_own
from caafp_app.protocol.messages import Action, Request
from caafp_app.protocol.objective import DUAL_WEIGHT
from caafp_app.settings import Settings

CLUSTERS, MOVED, SECOND, THIRD = ({"w": np.array([float(n)])} for n in range(4))


def work(
    context: Context,
    request: Request,
    received: Any = CLUSTERS,
    personal: str = "dual",
    **told: float,
) -> Work:
    x, y = np.zeros((30, 1, 1), np.float32), np.arange(30) % 2
    data = ClientData("me", x, y, x[:0], y[:0], ("a", "b"))
    settings = Settings.from_run_config({"personal": personal})
    network = Network("har-cnn", (1, 1), 2)
    content = RecordDict({"config": ConfigRecord(told)})
    return Work(content, context, settings, request, data, received, network)


def context_of(folder: Path | None = None, run: int = 7) -> Context:
    """A client that has just started: a simulated one, or a device with a disk."""
    told = {} if folder is None else {"data-path": "here", "state-dir": str(folder)}
    return Context(run, 1, told, RecordDict(), {})


def follow(work: Work, *models: Any) -> tuple[list[Fit], Trained]:
    """Answer each training by the next of these models."""
    objective, start = objective_of(work)
    tasks = objective(work, start)
    asked = [next(tasks)]
    for model in models:
        try:
            asked.append(tasks.send(Fitted(0.5, model)))
        except StopIteration as stop:
            return asked, stop.value
    raise AssertionError("it goes on")


ROUND = Request(Action.TRAIN, phase="prune", cluster=0)


def test_the_second_model_goes_on_from_where_it_was_and_is_not_sent() -> None:
    context = context_of()
    (first, second), trained = follow(work(context, ROUND), MOVED, SECOND)
    assert trained.sent is MOVED
    assert (first.how.proximal, second.how.proximal) == (0.0, PULL)
    assert second.anchor is second.arrays is CLUSTERS
    (_, second), _ = follow(work(context, ROUND, MOVED), MOVED, THIRD)
    assert second.arrays == SECOND
    assert second.anchor is MOVED
    end = Request(Action.PERSONALISE, phase="personalise", cluster=0)
    (alone,), trained = follow(work(context, end), MOVED)
    assert alone.arrays == THIRD
    assert trained.model is MOVED


def test_a_strategy_asks_for_it_by_the_weight_of_the_pull() -> None:
    told = {DUAL_WEIGHT: 2.5}
    asked = work(context_of(), ROUND, personal="finetune", **told)
    (first, second), trained = follow(asked, MOVED, SECOND)
    assert (first.how.proximal, second.how.proximal) == (0.0, 2.5)
    assert trained.sent is MOVED


@pytest.mark.parametrize(
    ("request_", "personal"),
    [
        (Request(Action.TRAIN, phase="warm-up", cluster=-1), "dual"),
        (Request(Action.TRAIN, phase="cluster", cluster=0), "dual"),
        (ROUND, "finetune"),
    ],
)
def test_elsewhere_one_model_is_trained(request_: Request, personal: str) -> None:
    (fit,), trained = follow(work(context_of(), request_, personal=personal), MOVED)
    assert trained.sent is MOVED
    assert fit.how.proximal == 0.0


def test_a_device_takes_it_up_after_a_restart_in_the_same_run(tmp_path: Path) -> None:
    follow(work(context_of(tmp_path), ROUND), MOVED, SECOND)
    assert (tmp_path / OWN_FILE).stat().st_mode & 0o077 == 0
    (_, again), _ = follow(work(context_of(tmp_path), ROUND), MOVED, SECOND)
    assert again.arrays == SECOND
    (_, other), _ = follow(work(context_of(tmp_path, run=8), ROUND), MOVED, SECOND)
    assert other.arrays is CLUSTERS


def test_what_is_damaged_or_of_another_network_is_not_taken_up(tmp_path: Path) -> None:
    keep_own(tmp_path, {"w": np.zeros(3)}, "7")
    (_, fit), _ = follow(work(context_of(tmp_path), ROUND), MOVED, SECOND)
    assert fit.arrays is CLUSTERS
    (tmp_path / OWN_FILE).write_bytes(b"no")
    assert load_own(tmp_path, "7") == {}
