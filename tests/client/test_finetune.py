"""What a client asks of its windows before it fine-tunes, task by task."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from caafp_app.client.finetune import BLIND_EPOCHS, LEAST_EPOCHS, Trained, finetune
from caafp_app.client.tasks import Evaluate, Fit, Fitted, HowLong, Network
from caafp_app.client.work import Work
from caafp_app.datasets.base import ClientData
from caafp_app.protocol.messages import Action, Request
from caafp_app.settings import Settings
from caafp_app.training import MOST_EPOCHS, Score, Stopped

OURS, CLUSTERS, TRAINED = ({"w": np.array([value])} for value in (1.0, 2.0, 3.0))


def work(
    labels: list[int], epochs: int | str = "auto", action: Action = Action.PERSONALISE
) -> Work:
    y = np.array(labels, np.int64)
    x = np.arange(len(y), dtype=np.float32).reshape(-1, 1, 1)
    data = ClientData("me", x, y, x[:0], y[:0], ("a", "b", "c"))
    settings = Settings.from_run_config({"finetune-epochs": epochs})
    context = Context(1, 1, {}, RecordDict(), {})
    network = Network("har-cnn", (1, 1), 3)
    return Work(RecordDict(), context, settings, Request(action), data, CLUSTERS, network)


def follow(work: Work, *results: Any, start: Any = CLUSTERS) -> tuple[list[Any], Trained]:
    """Answer the tasks by these results; return the tasks and what came of them."""
    tasks = finetune(work, start, work.how(), CLUSTERS)
    asked: list[Any] = []
    answer = None
    for result in (*results, None):
        try:
            asked.append(tasks.send(answer))
        except StopIteration as stop:
            return asked, stop.value
        answer = result
    raise AssertionError(f"asked for more than {len(results)} tasks: {asked}")


@pytest.mark.parametrize(("best", "taken"), [(31, 31), (1, LEAST_EPOCHS)])
def test_it_trains_on_all_windows_for_as_long_as_the_last_ones_got_better(
    best: int, taken: int
) -> None:
    client = work([0] * 20 + [1] * 10)
    (search, fit), tuned = follow(client, Stopped(best, Score(0.9, 0.2, 6)), Fitted(0.5, TRAINED))
    assert isinstance(search, HowLong)
    assert isinstance(fit, Fit)
    assert search.held[0].ravel().tolist() == [16, 17, 18, 19, 28, 29]
    assert len(search.windows) == 24
    assert (len(fit.windows), fit.arrays) == (30, CLUSTERS)
    assert (search.how.epochs, fit.how.epochs) == (MOST_EPOCHS, taken)
    assert fit.how.seed == search.how.seed
    assert tuned == Trained(0.5, TRAINED, TRAINED, taken)


def test_by_windows_of_one_class_it_stops_as_early_as_they_say() -> None:
    client = work([0] * 30)
    (_, fit), tuned = follow(client, Stopped(2, Score(0.9, 0.2, 6)), Fitted(0.5, TRAINED))
    assert (fit.how.epochs, tuned.epochs) == (2, 2)


@pytest.mark.parametrize(
    ("found", "rival", "model"),
    [
        (Stopped(0, Score(0.5, 0.2, 6)), 1.0, OURS),
        (Stopped(9, Score(1 / 6, 0.2, 6)), 1.0, CLUSTERS),
    ],
)
def test_the_clearly_better_of_the_clusters_model_and_its_own_is_kept(
    found: Stopped, rival: float, model: Any
) -> None:
    client = work([0] * 20 + [1] * 10)
    asked, tuned = follow(client, found, Score(rival, 0.1, 6), start=OURS)
    assert isinstance(asked[1], Evaluate)
    assert asked[1].arrays is CLUSTERS
    assert tuned == Trained(0.0, model, model, 0)


def test_a_client_keeps_its_clusters_model_where_fine_tuning_makes_it_worse() -> None:
    client = work([0] * 20 + [1] * 10)
    _, tuned = follow(client, Stopped(0, Score(0.9, 0.2, 6)))
    assert tuned == Trained(0.0, CLUSTERS, CLUSTERS, 0)


@pytest.mark.parametrize("labels", [[0], [0, 0, 1, 1], [0, 1, 2] * 6])
def test_few_windows_decide_nothing(labels: list[int]) -> None:
    (fit,), tuned = follow(work(labels), Fitted(0.5, TRAINED))
    assert (fit.how.epochs, len(fit.windows)) == (BLIND_EPOCHS, len(labels))
    assert tuned.epochs == BLIND_EPOCHS


def test_a_number_of_epochs_and_the_rounds_are_as_they_are_told() -> None:
    labels = [0] * 20 + [1] * 10
    for client, epochs in ((work(labels, 9), 9), (work(labels, action=Action.TRAIN), 3)):
        (fit,), tuned = follow(client, Fitted(0.5, TRAINED))
        assert fit.how.epochs == tuned.epochs == epochs
