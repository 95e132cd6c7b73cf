"""The convolutional network of the CA-AFP paper."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from caafp_app.errors import SettingsError


class HarCNN(nn.Module):
    """The convolutional network of the CA-AFP paper (arXiv 2603.01739).

    Conv 64 k5 - ReLU - MaxPool 2 - Dropout .3, twice; Dense 32 - ReLU - Dropout .2 - Dense. For UCI
    HAR (128 x 9, 6 classes) 89 254 parameters, of which 89 088 are prunable. Windows are (samples,
    channels).
    """

    chain = True

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        if len(input_shape) != 2 or input_shape[0] < 4:
            raise SettingsError(
                f"model 'har-cnn' takes windows of (samples >= 4, channels), found {input_shape}"
            )
        samples, channels = input_shape
        self.conv1 = nn.Conv1d(channels, 64, 5, padding=2)
        self.conv2 = nn.Conv1d(64, 64, 5, padding=2)
        self.drop_conv = nn.Dropout(0.3)
        self.dense = nn.Linear(64 * (samples // 4), 32)
        self.drop_dense = nn.Dropout(0.2)
        self.head = nn.Linear(32, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Map [n, samples, channels] to logits [n, classes]."""
        # [n, channels, 1, samples] with channels innermost: oneDNN trains this 1.6 times as fast
        # as the same convolution in one dimension.
        x = windows.transpose(1, 2).unsqueeze(2).contiguous(memory_format=torch.channels_last)
        for conv in (self.conv1, self.conv2):
            x = functional.conv2d(x, conv.weight.unsqueeze(2), conv.bias, padding=(0, 2))
            # The pool first: it commutes with the ReLU, which then has half the work.
            x = self.drop_conv(torch.relu(functional.max_pool2d(x, (1, 2))))
        x = self.drop_dense(torch.relu(self.dense(x.flatten(1))))
        logits: Tensor = self.head(x)
        return logits

    def stacked(self, parameters: Mapping[str, Tensor], windows: Tensor) -> Tensor:
        """Compute `forward` for several clients: convolutions as batched matrix products.

        From parameters of each of C clients [C, *shape], by name, and windows [C, n, samples,
        channels] to logits [C, n, classes].
        """
        x = windows
        for name in ("conv1", "conv2"):
            x = _convolved(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])
            even = x.shape[2] // 2 * 2
            x = torch.maximum(x[:, :, 0:even:2], x[:, :, 1:even:2])
            x = self.drop_conv(torch.relu(x))
        x = x.transpose(2, 3).flatten(2)  # filters before samples, as `forward` flattens
        x = dense(x, parameters["dense.weight"], parameters["dense.bias"])
        x = self.drop_dense(torch.relu(x))
        return dense(x, parameters["head.weight"], parameters["head.bias"])


def _convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve over time: [C, n, T, in] and [C, out, in, k] to [C, n, T, out]."""
    clients, n, samples, channels = x.shape
    kernel = weight.shape[3]
    pieces = functional.pad(x, (0, 0, kernel // 2, kernel // 2)).unfold(2, kernel, 1)
    pieces = pieces.reshape(clients, n * samples, channels * kernel)
    return dense(pieces, weight.flatten(2), bias).reshape(clients, n, samples, -1)


def dense(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply dense layers: [C, n, in], [C, out, in] and [C, out] to [C, n, out]."""
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
