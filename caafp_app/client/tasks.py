"""What needs a network, as values: train one, score one, or take a gradient.

A generator of tasks yields them one after another, is sent the result of each, and returns what it
is for.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from caafp_app import training
from caafp_app.models import build_model
from caafp_app.models.resize import resize
from caafp_app.training import LocalTraining, Score, Stopped

Arrays = Mapping[str, NDArray[Any]]
Mask = Mapping[str, NDArray[np.bool_]]
T = TypeVar("T")
Tasks = Generator["Task", Any, T]


@dataclass(frozen=True)
class Network:
    """Which network: by name, form of one window and number of classes.

    Where filters were removed, `shapes` has those of each array; else None.
    """

    name: str
    input_shape: tuple[int, ...]
    classes: int
    shapes: tuple[tuple[str, tuple[int, ...]], ...] | None = None


@dataclass(frozen=True, eq=False)
class _OfWindows:
    """A network with its arrays, and windows with their classes."""

    network: Network
    arrays: Arrays
    windows: NDArray[np.float32]
    classes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fit(_OfWindows):
    """Train from `arrays`: see `training.train`. The result is a `Fitted`."""

    how: LocalTraining
    mask: Mask | None
    anchor: Arrays


class Fitted(NamedTuple):
    """Mean loss of the last epoch, and the trained arrays."""

    loss: float
    arrays: dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class HowLong(Fit):
    """Find after how many epochs to stop: see `training.how_long`. The result is a `Stopped`."""

    held: tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Evaluate(_OfWindows):
    """Score `arrays`: see `training.evaluate`. The result is a `Score`."""


@dataclass(frozen=True, eq=False)
class Gradient(_OfWindows):
    """Take the gradient at `arrays`: see `training.full_gradient`. The result is by name."""


@dataclass(frozen=True, eq=False)
class Predict:
    """Say what `arrays` give each class: see `training.probabilities`. The result is an array."""

    network: Network
    arrays: Arrays
    windows: NDArray[np.float32]

    @property
    def classes(self) -> NDArray[np.int64]:
        """Return one class for each window: nobody knows them."""
        return np.zeros(len(self.windows), np.int64)


Task = Fit | HowLong | Evaluate | Gradient | Predict
Result = Fitted | Stopped | Score | dict[str, NDArray[np.float32]] | NDArray[np.float64]


@lru_cache(maxsize=8)
def network_on(network: Network, device: str) -> nn.Module:
    """Return the network on a device, one for all tasks; its values are those of the last task."""
    model = build_model(network.name, network.input_shape, network.classes, seed=0)
    if network.shapes is not None:
        resize(model, {name: np.empty(shape) for name, shape in network.shapes})
    return training.place(model, device)


def perform(task: Task, device: str) -> Result:
    """Do one task; raises ProtocolError if the arrays are not those of the network."""
    model = network_on(task.network, device)
    training.load_arrays(model, task.arrays)
    match task:
        case HowLong():
            fit = task.windows, task.classes, task.held, task.how, task.mask, task.anchor
            return training.how_long(model, *fit)
        case Fit():
            loss = training.train(
                model, task.windows, task.classes, task.how, task.mask, task.anchor
            )
            return Fitted(loss, training.dump_arrays(model))
        case Evaluate():
            return training.evaluate(model, task.windows, task.classes)
        case Gradient():
            return training.full_gradient(model, task.windows, task.classes)
        case Predict():
            return training.probabilities(model, task.windows)


def run(tasks: Tasks[T], device: str) -> T:
    """Do all tasks of a generator, each as it comes, and return what the generator returns."""
    try:
        task = next(tasks)
        while True:
            task = tasks.send(perform(task, device))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
