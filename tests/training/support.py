"""A small network with its data and masks."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from caafp_app.training import seeded

Bits = dict[str, NDArray[np.bool_]]


class Small(nn.Module):
    """Two layers with dropout and batch norm, so that buffers are there too."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with seeded(seed):
            self.first = nn.Linear(8, 16)
            self.norm = nn.BatchNorm1d(16)
            self.drop = nn.Dropout(0.3)
            self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(torch.relu(self.norm(self.first(x)))))


def data(n: int = 70, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 8)).astype(np.float32)
    return x, (x @ rng.normal(size=(8, 3))).argmax(1)


def masks_of(model: nn.Module, density: float = 0.4, seed: int = 1) -> Bits:
    rng = np.random.default_rng(seed)
    return {
        name: rng.random(tuple(p.shape)) < density
        for name, p in model.named_parameters()
        if p.ndim >= 2
    }
