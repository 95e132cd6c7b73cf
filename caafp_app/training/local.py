"""Training on one client's windows inside a mask: how long, how fast, from which seed."""

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from caafp_app.training.optimizers import make_optimizer
from caafp_app.training.state import Arrays, FlatParameters


@dataclass(frozen=True)
class LocalTraining:
    """How a client trains: see the settings of the same names.

    `density` is the share of the prunable weights that will be active in the end.
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    proximal: float = 0.0
    seed: int = 0
    optimizer: str = "adam"
    density: float = 1.0


def train(
    model: nn.Module,
    windows: NDArray[np.float32],
    classes: NDArray[np.int64],
    how: LocalTraining,
    mask: Arrays | None = None,
    anchor: Arrays | None = None,
) -> float:
    """Train `model` in place for `how.epochs`: see `epochs`.

    Returns the mean cross-entropy in nats of the last epoch; 0 without any.
    """
    losses = [0.0, *epochs(model, windows, classes, how, mask, anchor)]
    return losses[-1]


def epochs(
    model: nn.Module,
    windows: NDArray[np.float32],
    classes: NDArray[np.int64],
    how: LocalTraining,
    mask: Arrays | None = None,
    anchor: Arrays | None = None,
) -> Generator[float, None, None]:
    """Train `model` in place by cross-entropy, with a fresh optimiser, inside `mask`.

    Yields each epoch's mean cross-entropy in nats as it ends; the caller may then score the model,
    and may stop. With `how.proximal` mu the loss has mu / 2 |w - a|^2 besides, a being `anchor` or,
    without one, the model as it came (Li et al., FedProx). `mask` is true where a weight may
    change, by name and shape; the rest stays zero.

    The model maps windows, float32 [batch, time, channels], to logits [batch, classes]; `classes`
    are int64 [n].
    """
    parameters = FlatParameters(model, mask)
    device = parameters.values.device
    data, target = torch.from_numpy(windows).to(device), torch.from_numpy(classes).to(device)
    optimizer = make_optimizer(
        how.optimizer,
        parameters.values,
        parameters.gradient,
        how.learning_rate,
        parameters.prunable,
        how.density,
    )
    centre = parameters.values.clone() if anchor is None else parameters.gather(anchor)
    with seeded(how.seed), torch.enable_grad():
        for _ in range(how.epochs):
            model.train()
            total = 0.0
            for batch in torch.split(torch.randperm(len(target)), how.batch_size):
                loss = functional.cross_entropy(model(data[batch]), target[batch])
                loss.backward()  # type: ignore[no-untyped-call]
                if how.proximal:
                    drift = parameters.values.detach() - centre
                    parameters.gradient.add_(drift, alpha=how.proximal)
                parameters.mask_gradient()
                optimizer.step()
                parameters.gradient.zero_()
                total += loss.item() * len(batch)
            yield total / max(len(target), 1)


def decay(round_: int, rounds: int, end: float) -> float:
    """Return the share of the learning rate in a round: 1 at the first, `end` at the last.

    A half cosine between, as in SGDR (Loshchilov & Hutter, 2017): ``end + (1 - end)(1 + cos)/2``.
    """
    place = min(max(round_ - 1, 0) / max(rounds - 1, 1), 1.0)
    return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * place))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator, which dropout and shuffling use, and put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
