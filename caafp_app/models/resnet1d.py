"""A residual network over time."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from caafp_app.errors import SettingsError


class ResNet1d(nn.Module):
    """The residual network for time series of Wang, Yan and Oates (arXiv 1611.06455, 2017).

    Three blocks of 64, 128 and 128 filters; global mean over time; one dense layer. Windows are
    (samples, channels), of any length.
    """

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        if len(input_shape) != 2:
            raise SettingsError(
                f"model 'resnet1d' takes windows of (samples, channels), found {input_shape}"
            )
        widths = (input_shape[1], 64, 128, 128)
        self.blocks = nn.Sequential(*(_Block(wide, out) for wide, out in pairwise(widths)))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Map [n, samples, channels] to logits [n, classes]."""
        logits: Tensor = self.head(self.blocks(windows.transpose(1, 2)).mean(2))
        return logits


class _Block(nn.Module):
    """Convolutions of 8, 5 and 3 samples, each with batch norm, and a way around them."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for kernel, wide in ((8, channels), (5, filters), (3, filters)):
            layers += [
                # Of the same length after it; torch warns where it pads an even one by itself.
                nn.ZeroPad1d(((kernel - 1) // 2, kernel // 2)),
                nn.Conv1d(wide, filters, kernel, bias=False),
                nn.BatchNorm1d(filters),
                nn.ReLU(),
            ]
        self.way = nn.Sequential(*layers[:-1])
        self.around = nn.Sequential(
            nn.Conv1d(channels, filters, 1, bias=False), nn.BatchNorm1d(filters)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, channels, samples] to [n, filters, samples]."""
        return torch.relu(self.way(x) + self.around(x))
