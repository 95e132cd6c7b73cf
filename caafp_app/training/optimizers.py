"""Optimisers of the local training, on one flat vector of parameters.

To add one: write a class as `Optimizer` says, and add a line to `caafp_app.registry.OPTIMISERS`.
"""

from typing import Protocol

import torch
from torch import Tensor


class Optimizer(Protocol):
    """What `training.train` makes afresh for each training, and calls once for each batch.

    The gradient is zero at pruned positions and the values there are zero. A step that moves a
    value only by its own gradients, present and past, and by itself keeps them so.

    Parameters
    ----------
    values : Tensor
        All trainable parameters, float32 [n]; `step` changes them in place.
    gradient : Tensor
        Of the loss, [n]. The caller fills it before each step and clears it afterwards.
    learning_rate : float
        Above 0.
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
