"""One message, as the actions see it: settings, data, the model that came, and how to train."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from flwr.app import Context, RecordDict
from numpy.typing import NDArray

from caafp_app import training
from caafp_app.client.tasks import Arrays, Evaluate, Fit, Gradient, Network, Predict, Tasks
from caafp_app.datasets.base import ClientData, FloatArray, IntArray
from caafp_app.datasets.resolve import NodeConfig, load_client
from caafp_app.datasets.split import Split, hold_out
from caafp_app.protocol.held import current_mask, current_request
from caafp_app.protocol.messages import Action, Request, from_record
from caafp_app.protocol.objective import CUT_FILTERS, HELD_OUT, option
from caafp_app.settings import AUTO, DataSettings, Settings
from caafp_app.training import LocalTraining

Metrics = dict[str, int | float | list[int] | list[float]]
Load = Callable[[DataSettings, NodeConfig], ClientData]


EPOCHS_BEFORE_CLUSTERING = 1
"""The updates that are compared have to show in which direction a client pulls, and no more."""


@dataclass(frozen=True, eq=False)
class Work:
    """What one message asks of this client.

    `request` is None for a message of a plain Flower strategy; `received` are the arrays that came,
    by name, and `network` is whose they are.
    """

    content: RecordDict
    context: Context
    settings: Settings
    request: Request | None
    data: ClientData
    received: Mapping[str, NDArray[Any]]
    network: Network

    @classmethod
    def of(cls, content: RecordDict, context: Context, load: Load = load_client) -> "Work":
        """Read the content of a message and load the data, by ``load(settings, node_config)``.

        Raises CaafpError if the settings, the data or the message are not what they have to be.
        """
        settings = Settings.from_run_config(context.run_config)
        torch.set_num_threads(1)
        data = load(settings.data, context.node_config)
        names = content.array_records
        received = from_record(content, "arrays" if "arrays" in names else next(iter(names), ""))
        shapes = None
        if option(content, CUT_FILTERS):
            shapes = tuple((name, array.shape) for name, array in received.items())
        network = Network(settings.model.model, data.input_shape, len(data.class_names), shapes)
        request = current_request(context)
        return cls(content, context, settings, request, data, received, network)

    @property
    def personalises(self) -> bool:
        """Whether the model is fine-tuned, and stays on this client."""
        return self.request is not None and self.request.action is Action.PERSONALISE

    @property
    def finds_epochs(self) -> bool:
        """Whether this client finds itself how long to train: see `client.finetune`."""
        return self.personalises and self.settings.train.finetune_epochs == AUTO

    @property
    def trains_two(self) -> bool:
        """Whether a second model is trained near the cluster's: inside clusters, and at the end."""
        request = self.request
        if self.settings.train.personal != "dual" or request is None:
            return False
        return self.personalises or (request.phase != "cluster" and request.cluster >= 0)

    @property
    def mask(self) -> dict[str, NDArray[np.bool_]] | None:
        """The mask to train inside of, by array name; None where nothing is masked."""
        if self.request is None or (self.personalises and self.settings.train.finetune_dense):
            return None
        return current_mask(self.context)

    @cached_property
    def split(self) -> Split:
        """Which of the train windows this message trains on, and which it holds out of them."""
        share = option(self.content, HELD_OUT, most=0.5)
        return hold_out(self.data, share, self.settings.data.window_gap)

    def held(self, arrays: Arrays, prefix: str = "held") -> Tasks[dict[str, float]]:
        """Score a model on train windows held out, where a message asks for it: see `HELD_OUT`."""
        if not option(self.content, HELD_OUT):
            return {}
        data, rows = self.data, self.split.held_out
        score = yield Evaluate(self.network, arrays, data.train_x[rows], data.train_y[rows])
        found = {"accuracy": score.accuracy, "loss": score.loss, "examples": score.examples}
        return {f"{prefix}-{name}": value for name, value in found.items()}

    def score(self, name: str, arrays: Arrays) -> Tasks[Metrics]:
        """Score a model on the windows held out; `name` says whose model it is."""
        score = yield Evaluate(self.network, arrays, self.data.test_x, self.data.test_y)
        found: Metrics = {f"{name}-accuracy": score.accuracy, f"{name}-loss": score.loss}
        if self.personalises:  # once a run; in every round it would cost bytes
            found[f"{name}-f1"] = score.f1
            if self.settings.data.share_class_counts and score.examples:
                found[f"{name}-confusion"] = score.confusion.ravel().tolist()
        return found

    def fit(self, arrays: Arrays, how: LocalTraining) -> Fit:
        """Train a model on the train windows, inside the mask; the received one is the anchor."""
        x, y = self._windows()
        return Fit(self.network, arrays, x, y, how, self.mask, self.received)

    def predict(self, arrays: Arrays) -> Predict:
        """Say what a model gives each class in the train windows, as if they had no labels."""
        return Predict(self.network, arrays, self.data.train_x)

    def gradient(self, arrays: Arrays, rows: IntArray | None = None) -> Gradient:
        """Take the gradient of a model over train windows: those of some rows, or all."""
        data = self.data
        if rows is None:
            return Gradient(self.network, arrays, *self._windows())
        return Gradient(self.network, arrays, data.train_x[rows], data.train_y[rows])

    def _windows(self) -> tuple[FloatArray, IntArray]:
        data, split = self.data, self.split
        if not len(split.held_out):  # the arrays themselves, which stay on a GPU
            return data.train_x, data.train_y
        return data.train_x[split.train], data.train_y[split.train]

    def how(self) -> LocalTraining:
        """Return how long (at most, with `finds_epochs`), how fast and from which seed to train."""
        settings, request = self.settings.train, self.request
        epochs, rate, round_ = settings.local_epochs, settings.learning_rate, 0
        if request is not None:
            round_ = request.round
            rate *= training.decay(round_, self.settings.rounds.total, settings.learning_rate_end)
            if self.personalises:
                told, rate = settings.finetune_epochs, settings.finetune_learning_rate
                epochs = told if isinstance(told, int) else training.MOST_EPOCHS
            elif request.phase == "cluster":
                epochs = EPOCHS_BEFORE_CLUSTERING
        words = [self.settings.run.seed, round_, zlib.crc32(self.data.label.encode())]
        return LocalTraining(
            epochs=epochs,
            batch_size=settings.batch_size,
            learning_rate=rate,
            proximal=settings.proximal,
            optimizer=settings.optimizer,
            density=1.0 - self.settings.pruning.final,
            seed=int(np.random.SeedSequence(words).generate_state(1)[0]),
        )
