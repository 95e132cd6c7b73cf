"""The network, and the pictures of each client. Nothing here knows of federated learning."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """Two convolutions with batch norm, two dense layers: 13 802 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.classifier = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures [n, 1, 8, 8] to logits [n, 10]."""
        return self.classifier(self.features(pictures).flatten(1))


def initial_model(seed: int) -> Net:
    """Build the network with weights drawn from the seed."""
    torch.manual_seed(seed)
    return Net()


@cache
def load_data(client: int, clients: int) -> tuple[TensorDataset, TensorDataset]:
    """Return the pictures of one client, to train on and to test on.

    Every second client holds the camera upside down: what is a 6 to some is a 9 to others.
    """
    pictures, digits = load_digits(return_X_y=True)
    mine = np.random.default_rng(0).permutation(len(digits))[client::clients]
    x = (pictures[mine] / 16).reshape(-1, 1, 8, 8).astype(np.float32)
    if client % 2:
        x = x[:, :, ::-1, ::-1].copy()
    x, y = torch.from_numpy(x), torch.from_numpy(digits[mine])
    border = len(mine) * 4 // 5
    return TensorDataset(x[:border], y[:border]), TensorDataset(x[border:], y[border:])


def train(
    model: Net, optimizer: torch.optim.Optimizer, data: TensorDataset, epochs: int, seed: int
) -> None:
    """Train the model in place."""
    model.train()
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for x, y in DataLoader(data, batch_size=32, shuffle=True, generator=shuffle):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()


@torch.no_grad()
def accuracy(model: Net, data: TensorDataset) -> float:
    """Return the share of pictures that the model recognises."""
    model.eval()
    x, y = data.tensors
    return float((model(x).argmax(1) == y).float().mean())
