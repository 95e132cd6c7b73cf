"""What a client does when it is asked to train: a function for each action."""

import zlib
from collections.abc import Callable, Mapping

import numpy as np
from flwr.app import MetricRecord, RecordDict

from caafp_app import training
from caafp_app.client.objectives import Arrays, objective_of
from caafp_app.client.work import Work
from caafp_app.protocol.messages import GRADIENT, Action, to_record

Metrics = dict[str, int | float]


def saliency(work: Work) -> RecordDict:
    """Return the model as it came, and the gradient of one batch at all of its weights."""
    data = work.data
    rng = np.random.default_rng([work.settings.run.seed, zlib.crc32(data.label.encode())])
    batch = rng.permutation(len(data.train_y))[: work.settings.train.batch_size]
    gradient = training.full_gradient(work.model, data.train_x[batch], data.train_y[batch])
    return RecordDict(
        {
            "arrays": to_record(training.dump_arrays(work.model)),
            "metrics": MetricRecord({"num-examples": len(data.train_y)}),
            GRADIENT: to_record(gradient),
        }
    )


def train(work: Work) -> RecordDict:
    """Train by the objective that is asked for; score the model before, where that is asked."""
    evaluate = work.request is not None and work.request.evaluate
    metrics, trained = _trained(work, evaluate=evaluate)
    return _reply(work, trained, metrics)


def personalise(work: Work) -> RecordDict:
    """Fine-tune, score the model before and after, and keep it in the device's own folder."""
    metrics, trained = _trained(work, evaluate=True)
    metrics |= work.score("personal")
    _keep(work, metrics)
    return _reply(work, trained, metrics)


ACTIONS: Mapping[Action, Callable[[Work], RecordDict]] = {
    Action.SALIENCY: saliency,
    Action.PERSONALISE: personalise,
}
"""By what a request asks; all else is `train`, also a message of a plain Flower strategy."""


def answer(work: Work) -> RecordDict:
    """Do what the request asks."""
    return ACTIONS.get(work.request.action, train)(work) if work.request else train(work)


def _trained(work: Work, *, evaluate: bool) -> tuple[Metrics, Arrays]:
    objective = objective_of(work)
    metrics: Metrics = {"num-examples": len(work.data.train_y)}
    if evaluate:
        metrics |= work.score("cluster") | {"test-examples": len(work.data.test_y)}
    metrics["train-loss"], trained = objective(work)
    return metrics, trained


def _reply(work: Work, trained: Arrays, metrics: Metrics) -> RecordDict:
    """Return what was trained, and the gradient over all train windows where that is asked for."""
    content = RecordDict({"arrays": to_record(trained), "metrics": MetricRecord(dict(metrics))})
    if work.request is not None and work.request.gradient_counts:
        gradient = training.full_gradient(work.model, work.data.train_x, work.data.train_y)
        content[GRADIENT] = to_record(gradient)
    return content


def _keep(work: Work, metrics: Metrics) -> None:
    """Keep the model in the device's own folder; a simulated client has none."""
    from caafp_app.devices.personal import card_of, keep_personal, state_folder

    node_config, data = work.context.node_config, work.data
    folder = state_folder(node_config, data.label)
    if folder is not None:
        arrays = training.dump_arrays(work.model)
        card = card_of(work.settings, node_config, data, arrays, work.mask, metrics)
        keep_personal(folder, arrays, card)
