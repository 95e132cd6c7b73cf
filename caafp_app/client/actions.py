"""What a client does when it is asked: a function for each action."""

import logging
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.app import MessageType, MetricRecord, RecordDict

from caafp_app.client.finetune import Trained
from caafp_app.client.objectives import objective_of
from caafp_app.client.pace import told
from caafp_app.client.tasks import Arrays, Tasks
from caafp_app.client.work import Metrics, Work
from caafp_app.datasets.base import IntArray
from caafp_app.protocol.messages import GRADIENT, Action, to_record
from caafp_app.protocol.objective import HELD_TRAINED, LABEL_ENTROPY, UNLABELLED, option
from caafp_app.protocol.unlabelled import entropy, said_of


def saliency(work: Work) -> Tasks[RecordDict]:
    """Return the model as it came, and the gradient of one batch at all of its weights."""
    data = work.data
    rng = np.random.default_rng([work.settings.run.seed, zlib.crc32(data.label.encode())])
    batch = rng.permutation(len(data.train_y))[: work.settings.train.batch_size]
    gradient = yield work.gradient(work.received, batch)
    return RecordDict(
        {
            "arrays": to_record(work.received),
            "metrics": MetricRecord({"num-examples": len(data.train_y)}),
            GRADIENT: to_record(gradient),
        }
    )


def train(work: Work) -> Tasks[RecordDict]:
    """Train by the objective that is asked for; score the model before, where that is asked."""
    evaluate = work.request is not None and work.request.evaluate
    began = time.monotonic()
    metrics, trained = yield from _trained(work, evaluate=evaluate)
    metrics |= told(work, time.monotonic() - began)
    return (yield from _reply(work, trained, metrics))


def personalise(work: Work) -> Tasks[RecordDict]:
    """Fine-tune, score the model before and after, and keep it in the device's own folder."""
    metrics, trained = yield from _trained(work, evaluate=True)
    metrics |= yield from work.score("personal", trained.model)
    _keep(work, trained.model, metrics)
    return (yield from _reply(work, trained, metrics))


def evaluate(work: Work) -> Tasks[RecordDict]:
    """Score the received model on the windows held out."""
    metrics: Metrics = {"num-examples": len(work.data.test_y)}
    metrics |= yield from work.score("cluster", work.received)
    metrics |= yield from work.held(work.received)
    if option(work.content, UNLABELLED):
        metrics |= said_of((yield work.predict(work.received)))
    return RecordDict({"metrics": MetricRecord(dict(metrics))})


ACTIONS: Mapping[Action, Callable[[Work], Tasks[RecordDict]]] = {
    Action.SALIENCY: saliency,
    Action.PERSONALISE: personalise,
}
"""By what a request to train asks; all else is `train`, also of a plain Flower strategy."""


def answer(work: Work, route: str) -> Tasks[RecordDict]:
    """Do what a message asks; `route` is Flower's type of it."""
    if route == MessageType.EVALUATE:
        return evaluate(work)
    return ACTIONS.get(work.request.action, train)(work) if work.request else train(work)


def _trained(work: Work, *, evaluate: bool) -> Tasks[tuple[Metrics, Trained]]:
    objective, start = objective_of(work)
    metrics: Metrics = {"num-examples": len(work.data.train_y)}
    if evaluate:
        metrics |= yield from work.score("cluster", start)
        metrics |= yield from work.held(start)
        metrics["test-examples"] = len(work.data.test_y)
    if option(work.content, LABEL_ENTROPY):
        metrics[LABEL_ENTROPY] = _label_entropy(work.data.train_y, len(work.data.class_names))
    trained = yield from objective(work, start)
    if option(work.content, HELD_TRAINED):
        metrics |= yield from work.held(trained.model, HELD_TRAINED)
    metrics["train-loss"] = trained.loss
    if work.finds_epochs:
        metrics["finetune-epochs"] = trained.epochs
    return metrics, trained


def _label_entropy(classes: IntArray, count: int) -> float:
    """Return the entropy of labels as a share of ``ln(count)``; 0 where there is one class."""
    shares = np.bincount(classes, minlength=count) / len(classes)
    return float(entropy(shares[shares > 0]) / np.log(count)) if count > 1 else 0.0


def _reply(work: Work, trained: Trained, metrics: Metrics) -> Tasks[RecordDict]:
    """Return what was trained, and the gradient over all train windows where that is asked for."""
    content = RecordDict(
        {"arrays": to_record(trained.sent), "metrics": MetricRecord(dict(metrics))}
    )
    if work.request is not None and work.request.gradient_counts:
        content[GRADIENT] = to_record((yield work.gradient(trained.model)))
    return content


def _keep(work: Work, arrays: Arrays, metrics: Mapping[str, Any]) -> None:
    """Keep the model in the device's own folder; a simulated client has none."""
    from caafp_app.devices.kept import how_many, keep, state_folder
    from caafp_app.devices.personal import card_of
    from caafp_app.devices.predict import held_out_accuracy

    node_config, data = work.context.node_config, work.data
    state = state_folder(node_config, data.label)
    if state is None:
        return
    run = str(work.context.run_id)
    card = card_of(work.settings, node_config, data, arrays, work.mask, metrics, run)
    said = keep(
        state,
        arrays,
        card,
        lambda kept, its: held_out_accuracy(kept, its, data),
        how_many(node_config),
    )
    logging.getLogger("flwr").info("%s", said)
