"""One message, as the actions see it: settings, data, the model that came, and how to train."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flwr.app import Context, Message, RecordDict
from numpy.typing import NDArray
from torch import nn

from caafp_app import training
from caafp_app.datasets.base import ClientData
from caafp_app.datasets.resolve import load_client
from caafp_app.models import build_model
from caafp_app.models.resize import resize
from caafp_app.protocol.held import current_mask, current_request
from caafp_app.protocol.messages import Action, Request, from_record
from caafp_app.protocol.objective import CUT_FILTERS, option
from caafp_app.settings import Settings
from caafp_app.training import LocalTraining

EPOCHS_BEFORE_CLUSTERING = 1
"""The updates that are compared have to show in which direction a client pulls, and no more."""


@dataclass(frozen=True, eq=False)
class Work:
    """What one message asks of this client.

    Attributes
    ----------
    content : RecordDict
        Of the message.
    context : Context
    settings : Settings
        Of the run.
    request : Request, optional
        None for a message of a plain Flower strategy.
    data : ClientData
    received : mapping of str to ndarray
        The arrays that came, by name.
    model : nn.Module
        The network, with the received arrays in it; to be trained in place.
    """

    content: RecordDict
    context: Context
    settings: Settings
    request: Request | None
    data: ClientData
    received: Mapping[str, NDArray[Any]]
    model: nn.Module

    @classmethod
    def of(cls, message: Message, context: Context) -> "Work":
        """Read a message, load the data and build the model.

        Raises
        ------
        CaafpError
            The settings, the data or the received arrays are not what they have to be.
        """
        content = message.content
        settings = Settings.from_run_config(context.run_config)
        # More threads could add in another order, and the same seed would not be the same run.
        torch.set_num_threads(1)
        data = load_client(settings.data, context.node_config)
        model = build_model(settings.model.model, data.input_shape, len(data.class_names), seed=0)
        names = content.array_records
        received = from_record(content, "arrays" if "arrays" in names else next(iter(names), ""))
        if option(content, CUT_FILTERS):
            resize(model, received)
        training.load_arrays(model, received)
        request = current_request(context)
        model = training.place(model, settings.train.device)
        return cls(content, context, settings, request, data, received, model)

    @property
    def personalises(self) -> bool:
        """Whether the model is fine-tuned, and stays on this client."""
        return self.request is not None and self.request.action is Action.PERSONALISE

    @property
    def mask(self) -> dict[str, NDArray[np.bool_]] | None:
        """The mask to train inside of, by array name; None where nothing is masked."""
        if self.request is None or (self.personalises and self.settings.train.finetune_dense):
            return None
        return current_mask(self.context)

    def score(self, name: str) -> dict[str, float]:
        """Score the model as it is on the windows held out; `name` says whose model it is."""
        score = training.evaluate(self.model, self.data.test_x, self.data.test_y)
        return {f"{name}-accuracy": score.accuracy, f"{name}-loss": score.loss}

    def how(self) -> LocalTraining:
        """Return how long, how fast and from which seed to train."""
        settings, request = self.settings.train, self.request
        epochs, rate, round_ = settings.local_epochs, settings.learning_rate, 0
        if request is not None:
            round_ = request.round
            rate *= training.decay(round_, self.settings.rounds.total, settings.learning_rate_end)
            if self.personalises:
                epochs, rate = settings.finetune_epochs, settings.finetune_learning_rate
            elif request.phase == "cluster":
                epochs = EPOCHS_BEFORE_CLUSTERING
        words = [self.settings.run.seed, round_, zlib.crc32(self.data.label.encode())]
        return LocalTraining(
            epochs=epochs,
            batch_size=settings.batch_size,
            learning_rate=rate,
            proximal=settings.proximal,
            seed=int(np.random.SeedSequence(words).generate_state(1)[0]),
            optimizer=settings.optimizer,
        )
