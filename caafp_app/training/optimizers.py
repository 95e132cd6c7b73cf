"""Optimisers of the local training, on one flat vector of parameters.

To add one: write a class as `Optimizer` says, and add a line to `caafp_app.registry.OPTIMISERS`.
"""

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from caafp_app.registry import OPTIMISERS


class Optimizer(Protocol):
    """What `training.train` makes afresh for each training, and calls once for each batch.

    Of all trainable parameters, float32 [n], `step` changes `values` in place; the caller fills
    `gradient` before each step and clears it afterwards. It is zero at pruned positions and the
    values there are zero. A step that moves a value only by its own gradients, present and past,
    and by itself keeps them so.

    An optimiser with the class attribute ``takes_relevant = True`` is given besides, as `relevant`,
    which values it should not shrink: see `relevant`.
    """

    def __init__(self, values: Tensor, gradient: Tensor, learning_rate: float) -> None: ...

    def step(self) -> None:
        """Take one step along the gradient."""


class Adam:
    """Adam (Kingma & Ba, 2015, algorithm 1): see `Optimizer` for the parameters.

    Equal to ``torch.optim.Adam``; written out because that class imports torch's compiler with its
    first step, which costs a device more than the training itself.
    """

    def __init__(self, values: Tensor, gradient: Tensor, learning_rate: float) -> None:
        self.values, self.gradient = values, gradient
        self.learning_rate = learning_rate
        self.first = torch.zeros_like(values)
        self.second = torch.zeros_like(values)
        self.steps = 0

    def step(self) -> None:
        """Take one step along the gradient."""
        self.steps += 1
        self.first.lerp_(self.gradient, 0.1)
        self.second.mul_(0.999).addcmul_(self.gradient, self.gradient, value=0.001)
        step_size = self.learning_rate / (1 - 0.9**self.steps)
        denominator = (self.second.sqrt() / (1 - 0.999**self.steps) ** 0.5).add_(1e-8)
        self.values.addcdiv_(self.first, denominator, value=-step_size)


class Momentum:
    """Gradient descent with heavy-ball momentum (Polyak, 1964): ``m = 0.9 m + g``, ``w -= rate m``.

    Equal to ``torch.optim.SGD(momentum=0.9)``. See `Optimizer` for the parameters.
    """

    def __init__(self, values: Tensor, gradient: Tensor, learning_rate: float) -> None:
        self.values, self.gradient = values, gradient
        self.learning_rate = learning_rate
        self.velocity = torch.zeros_like(values)

    def step(self) -> None:
        """Take one step along the momentum."""
        self.velocity.mul_(0.9).add_(self.gradient)
        self.values.add_(self.velocity, alpha=-self.learning_rate)


class PrunAdag:
    """Adagrad that shrinks what is about to be pruned, after prunAdag (arXiv 2502.08308).

    With ``v += g^2`` and the step of Adagrad ``s = rate g / (sqrt(v) + 1e-8)``:

    - a relevant value goes along the gradient: ``w -= s``;
    - any other one goes towards zero by as much, and not beyond: ``w -= sign(w) min(|w|, |s|)``.

    The paper divides the variables anew in each step; here they are divided once for each training.
    """

    takes_relevant = True

    def __init__(
        self, values: Tensor, gradient: Tensor, learning_rate: float, relevant: Tensor
    ) -> None:
        self.values, self.gradient = values, gradient
        self.learning_rate = learning_rate
        self.relevant = relevant
        self.squares = torch.zeros_like(values)

    def step(self) -> None:
        """Take one step: along the gradient, or towards zero."""
        self.squares.addcmul_(self.gradient, self.gradient)
        step = self.learning_rate * self.gradient / self.squares.sqrt().add_(1e-8)
        shrink = torch.minimum(step.abs(), self.values.abs()) * self.values.sign()
        self.values.sub_(torch.where(self.relevant, step, shrink))


def make_optimizer(
    name: str,
    values: Tensor,
    gradient: Tensor,
    learning_rate: float,
    prunable: Tensor,
    density: float,
) -> Optimizer:
    """Make the optimiser of a registered name, for float32 values [n] or [clients, n].

    See `relevant` for `prunable` and `density`.
    """
    make: Any = OPTIMISERS[name]
    more = {}
    if getattr(make, "takes_relevant", False):
        more["relevant"] = relevant(values, prunable, density)
    made: Optimizer = make(values, gradient, learning_rate, **more)
    return made


@torch.no_grad()
def relevant(values: Tensor, prunable: Tensor, density: float) -> Tensor:
    """Tell which values [..., n] will probably stay: the `density` share of largest magnitude.

    What is not `prunable` [n] is relevant. `density` is the share of the prunable values that will
    be active in the end, in (0, 1].
    """
    sizes = values[..., prunable].abs()
    count = max(math.floor(density * sizes.shape[-1] + 0.5), 1)
    if count >= sizes.shape[-1]:
        return torch.ones_like(values, dtype=torch.bool)
    least = sizes.topk(count, dim=-1).values[..., -1:]
    return (values.abs() >= least) | ~prunable
