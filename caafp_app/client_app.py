"""The ClientApp: this node's data, masked training and evaluation.

It uses `sparse_mod` as any other app would: what arrives here is a dense model, and the mask is
asked of `current_mask`. torch is imported by the handlers that need it, not by this module, so
that a message which needs none is answered without it.
"""

import logging
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from caafp_app.datasets.resolve import describe_client, load_client
from caafp_app.devices.saying import say
from caafp_app.errors import ProtocolError
from caafp_app.protocol.held import current_mask, keep_record, kept_arrays
from caafp_app.protocol.messages import (
    GRADIENT,
    Action,
    Request,
    from_record,
    is_ours,
    to_record,
)
from caafp_app.protocol.mod import Description, SparseMod
from caafp_app.protocol.objective import CENTRE_WEIGHT, CUT_FILTERS, DUAL_WEIGHT, OWN, option
from caafp_app.settings import Settings

if TYPE_CHECKING:
    from torch import nn

    from caafp_app.datasets.base import ClientData
    from caafp_app.training import LocalTraining


def describe(context: Context) -> Description:
    """Name this client by its data."""
    settings = Settings.from_run_config(context.run_config)
    found = describe_client(settings.data, context.node_config)
    return Description(found.label, found.examples, found.population, found.idle)


app = ClientApp(mods=[say, SparseMod(describe)])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received model, or fine-tune it when the request is to personalise.

    A strategy may ask for another objective, or for a second model: see `protocol.objective`.
    """
    from caafp_app import training

    settings, data, model = _prepare(message, context)
    request = _request(message)
    mask = current_mask(context) if request else None
    personalise = request is not None and request.action is Action.PERSONALISE
    if personalise and settings.train.finetune_dense:
        mask = None
    dual, pull = option(message.content, DUAL_WEIGHT), option(message.content, CENTRE_WEIGHT)
    received = from_record(message.content, _model_name(message))
    start: Mapping[str, NDArray[Any]] = received
    if pull:
        start = _own_model(message, context)
        training.load_arrays(model, start)
    metrics: dict[str, int | float] = {"num-examples": len(data.train_y)}
    if personalise or (request is not None and request.evaluate):
        before = training.evaluate(model, data.test_x, data.test_y)
        metrics |= _score("cluster", before.accuracy, before.loss)
        metrics["test-examples"] = before.examples
    if request is not None and request.action is Action.SALIENCY:
        return _saliency(message, settings, data, model)
    how = _local_training(settings, request, data)
    near = replace(how, proximal=dual or pull or how.proximal)
    if dual and personalise:
        metrics["train-loss"] = _train_dual(model, received, data, near, mask, context)
        trained = training.dump_arrays(model)
    else:
        told = how if dual else near
        windows, classes = data.train_x, data.train_y
        metrics["train-loss"] = training.train(model, windows, classes, told, mask, received)
        trained = training.dump_arrays(model)
        if dual:
            _train_dual(model, received, data, near, mask, context)
    if pull:
        keep_record(context, OWN, trained)
        trained = {name: _moved(received[name], trained[name], start[name]) for name in trained}
    content = RecordDict({"arrays": to_record(trained)})
    if personalise:
        after = training.evaluate(model, data.test_x, data.test_y)
        metrics |= _score("personal", after.accuracy, after.loss)
        _keep_personal(context, settings, data, model, mask, metrics)
    content["metrics"] = MetricRecord(dict(metrics))
    if request is not None and request.gradient_counts:
        gradient = training.full_gradient(model, data.train_x, data.train_y)
        content[GRADIENT] = to_record(gradient)
    return Message(content, reply_to=message)


def _keep_personal(
    context: Context,
    settings: Settings,
    data: "ClientData",
    model: "nn.Module",
    mask: Mapping[str, NDArray[np.bool_]] | None,
    metrics: Mapping[str, int | float],
) -> None:
    """Keep the model in the device's own folder; a simulated client has none."""
    from caafp_app import training
    from caafp_app.devices.kept import how_many, keep, state_folder
    from caafp_app.devices.personal import card_of
    from caafp_app.devices.predict import held_out_accuracy

    state = state_folder(context.node_config, data.label)
    if state is None:
        return
    arrays = training.dump_arrays(model)
    run = str(context.run_id)
    card = card_of(settings, context.node_config, data, arrays, mask, metrics, run)
    said = keep(
        state,
        arrays,
        card,
        lambda kept, its: held_out_accuracy(kept, its, data),
        how_many(context.node_config),
    )
    logging.getLogger("flwr").info("%s", said)


def _train_dual(
    model: "nn.Module",
    received: Mapping[str, NDArray[Any]],
    data: "ClientData",
    how: "LocalTraining",
    mask: Mapping[str, NDArray[np.bool_]] | None,
    context: Context,
) -> float:
    """Train the model kept here near the received one; it starts as that one, also when lost."""
    from caafp_app import training

    training.load_arrays(model, kept_arrays(context, OWN) or received)
    loss = training.train(model, data.train_x, data.train_y, how, mask, received)
    keep_record(context, OWN, training.dump_arrays(model))
    return loss


def _own_model(message: Message, context: Context) -> dict[str, NDArray[Any]]:
    """Return this client's own model: the one sent, in case it is lost here, or the one kept."""
    own = from_record(message.content, OWN) or kept_arrays(context, OWN)
    if not own:
        raise ProtocolError("asked to train this client's own model, of which it has none")
    return own


def _moved(from_: NDArray[Any], after: NDArray[Any], before: NDArray[Any]) -> NDArray[Any]:
    """Return a point moved as another one was; what is not averaged is passed on."""
    return from_ + (after - before) if after.dtype.kind == "f" else after


def _saliency(
    message: Message, settings: Settings, data: "ClientData", model: "nn.Module"
) -> Message:
    """Return the model as it came, and the gradient of one batch at all of its weights."""
    from caafp_app import training

    rng = np.random.default_rng([settings.run.seed, zlib.crc32(data.label.encode())])
    batch = rng.permutation(len(data.train_y))[: settings.train.batch_size]
    gradient = training.full_gradient(model, data.train_x[batch], data.train_y[batch])
    content = RecordDict(
        {
            "arrays": to_record(training.dump_arrays(model)),
            "metrics": MetricRecord({"num-examples": len(data.train_y)}),
            GRADIENT: to_record(gradient),
        }
    )
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score the received model on this client's held-out windows."""
    from caafp_app import training

    _, data, model = _prepare(message, context)
    score = training.evaluate(model, data.test_x, data.test_y)
    metrics = MetricRecord({"num-examples": score.examples})
    metrics.update(_score("cluster", score.accuracy, score.loss))
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context) -> "tuple[Settings, ClientData, nn.Module]":
    import torch

    from caafp_app import training
    from caafp_app.models import build_model
    from caafp_app.models.resize import resize

    settings = Settings.from_run_config(context.run_config)
    torch.set_num_threads(settings.train.torch_threads)
    data = load_client(settings.data, context.node_config)
    model = build_model(settings.model.model, data.input_shape, len(data.class_names), seed=0)
    arrays = from_record(message.content, _model_name(message))
    if option(message.content, CUT_FILTERS):
        resize(model, arrays)
    training.load_arrays(model, arrays)
    return settings, data, training.place(model, settings.train.device)


def _local_training(
    settings: Settings, request: Request | None, data: "ClientData"
) -> "LocalTraining":
    from caafp_app.training import LocalTraining, decay

    epochs, seed, round_ = settings.train.local_epochs, settings.run.seed, 0
    learning_rate = settings.train.learning_rate
    if request is not None:
        round_ = request.round
        learning_rate *= decay(round_, settings.rounds.total, settings.train.learning_rate_end)
        if request.action is Action.PERSONALISE:
            epochs = settings.train.finetune_epochs
            learning_rate = settings.train.finetune_learning_rate
        elif request.phase == "cluster":
            epochs = settings.train.cluster_epochs
    words = [seed, round_, zlib.crc32(data.label.encode())]
    return LocalTraining(
        epochs=epochs,
        batch_size=settings.train.batch_size,
        learning_rate=learning_rate,
        proximal=settings.train.proximal,
        seed=int(np.random.SeedSequence(words).generate_state(1)[0]),
    )


def _request(message: Message) -> Request | None:
    return Request.from_records(message.content) if is_ours(message.content) else None


def _model_name(message: Message) -> str:
    names = message.content.array_records
    return "arrays" if "arrays" in names else next(iter(names), "arrays")


def _score(model: str, accuracy: float, loss: float) -> dict[str, float]:
    """Name a score by the model it is of; the population is this client, the split held out."""
    return {f"{model}-accuracy": accuracy, f"{model}-loss": loss}
