"""Convolutions over time, then a recurrent network."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional

from caafp_app.errors import SettingsError
from caafp_app.models.har_cnn import dense

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
        pairs = [(cast(Tensor, c.weight), cast(Tensor, c.bias)) for c in self.convolutions]
        x = _convolved(windows, pairs)
        states, _ = self.lstm(self.drop(x))
        logits: Tensor = self.head(self.drop(states[:, -1]))
        return logits

    def stacked(self, parameters: Mapping[str, Tensor], windows: Tensor) -> Tensor:
        """Compute `forward` for several clients; torch.func has no rule for torch's own LSTM.

        Shapes: see `HarCNN.stacked`.
        """
        layers = [
            (parameters[f"convolutions.{k}.weight"], parameters[f"convolutions.{k}.bias"])
            for k in range(_CONVOLUTIONS)
        ]
        x: Tensor = self.drop(vmap(_convolved)(windows, layers))
        for layer in range(self.lstm.num_layers):
            if layer:
                x = functional.dropout(x, self.lstm.dropout, self.training)
            names = ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
            x = _recurrent(x, *(parameters[f"lstm.{name}_l{layer}"] for name in names))
        return dense(self.drop(x[:, :, -1]), parameters["head.weight"], parameters["head.bias"])


def _convolved(windows: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Map [n, samples, channels] to [n, time, filters x channels]."""
    x = windows.unsqueeze(1)
    for weight, bias in layers:
        x = torch.relu(functional.conv2d(x, weight, bias))
    return x.transpose(1, 2).flatten(2)


def _recurrent(
    x: Tensor, weight_in: Tensor, bias_in: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """Apply an LSTM layer of each client: from [C, n, time, in] to its states [C, n, time, H]."""
    clients, n, time, _ = x.shape
    entering = dense(x.flatten(1, 2), weight_in, bias_in).reshape(clients, n, time, -1)
    state = cell = x.new_zeros(clients, n, weight.shape[2])
    states = []
    for moment in range(time):
        gates = entering[:, :, moment] + dense(state, weight, bias)
        let_in, forget, new, out = gates.chunk(4, dim=2)
        cell = forget.sigmoid() * cell + let_in.sigmoid() * new.tanh()
        state = out.sigmoid() * cell.tanh()
        states.append(state)
    return torch.stack(states, dim=2)
