"""Convolutions over time, then a recurrent network."""

import torch
from torch import Tensor, nn

from caafp_app.errors import SettingsError

_CONVOLUTIONS, _KERNEL = 4, 5


class DeepConvLSTM(nn.Module):
    """DeepConvLSTM (F. J. Ordonez, D. Roggen, Sensors 16(1):115, 2016).

    Four convolutions of 64 filters, 5 samples long, over each channel apart; two LSTM layers of 128
    units over what they leave of the time; dropout .5 before each of them and before the last
    layer, which reads the state after the last sample. Windows are (samples >= 17, channels).
    """

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        shortest = _CONVOLUTIONS * (_KERNEL - 1) + 1
        if len(input_shape) != 2 or input_shape[0] < shortest:
            raise SettingsError(
                f"model 'deep-conv-lstm' takes windows of (samples >= {shortest}, channels), found "
                f"{input_shape}"
            )
        self.convolutions = nn.ModuleList(
            nn.Conv2d(64 if layer else 1, 64, (_KERNEL, 1)) for layer in range(_CONVOLUTIONS)
        )
        self.drop = nn.Dropout(0.5)
        self.lstm = nn.LSTM(64 * input_shape[1], 128, 2, batch_first=True, dropout=0.5)
        self.head = nn.Linear(128, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Map [n, samples, channels] to logits [n, classes]."""
        x = windows.unsqueeze(1)
        for convolution in self.convolutions:
            x = torch.relu(convolution(x))
        # [n, filters, time, channels] to [n, time, filters x channels]
        x = x.transpose(1, 2).flatten(2)
        states, _ = self.lstm(self.drop(x))
        logits: Tensor = self.head(self.drop(states[:, -1]))
        return logits
