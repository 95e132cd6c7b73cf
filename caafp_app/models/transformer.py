"""A small transformer encoder over pieces of a window."""

import math

import torch
from torch import Tensor, nn

from caafp_app.errors import SettingsError

_PIECE, _WIDTH, _HEADS, _INNER, _LAYERS = 4, 64, 4, 128, 2


class TransformerEncoder(nn.Module):
    """Pieces of 4 samples as words of 64 numbers, two encoder layers of 4 heads, their mean.

    Normalisation comes before attention and dense layers, which trains without a warm-up of the
    learning rate (Xiong et al., arXiv 2002.04745, 2020); positions are told by sines (Vaswani et
    al., arXiv 1706.03762, 2017), which are no weights and are not sent. Windows are (samples,
    channels); what is left over by fours is not read.
    """

    positions: Tensor

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        if len(input_shape) != 2 or input_shape[0] < _PIECE:
            raise SettingsError(
                f"model 'transformer' takes windows of (samples >= {_PIECE}, channels), found "
                f"{input_shape}"
            )
        samples, channels = input_shape
        self.pieces = nn.Conv1d(channels, _WIDTH, _PIECE, stride=_PIECE)
        self.register_buffer("positions", _sines(samples // _PIECE), persistent=False)
        layer = nn.TransformerEncoderLayer(
            _WIDTH, _HEADS, _INNER, dropout=0.1, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(_WIDTH)
        self.head = nn.Linear(_WIDTH, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Map [n, samples, channels] to logits [n, classes]."""
        words = self.pieces(windows.transpose(1, 2)).transpose(1, 2)
        logits: Tensor = self.head(self.norm(self.encoder(words + self.positions)).mean(1))
        return logits


def _sines(length: int) -> Tensor:
    """Return what tells positions apart: [length, width], sines and cosines in turn."""
    rates = torch.exp(torch.arange(0, _WIDTH, 2) * (-math.log(10_000.0) / _WIDTH))
    angles = torch.arange(length).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
