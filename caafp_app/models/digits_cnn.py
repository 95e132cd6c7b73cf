"""A small convolutional network for pictures of 8 x 8."""

import torch
from torch import Tensor, nn

from caafp_app.errors import SettingsError


class DigitsCNN(nn.Module):
    """Conv 16 k3 - ReLU - MaxPool 2 - Conv 32 k3 - ReLU - MaxPool 2 - Dense 64 - ReLU - Dense.

    For the digits of scikit-learn (8 x 8 x 1, 10 classes) 13 706 parameters, of which 13 584 are
    prunable. Pictures are (rows, columns, channels).
    """

    chain = True

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[:2]) < 4:
            raise SettingsError(
                "model 'digits-cnn' takes pictures of (rows >= 4, columns >= 4, channels), found "
                f"{input_shape}"
            )
        rows, columns, channels = input_shape
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.dense = nn.Linear(32 * (rows // 4) * (columns // 4), 64)
        self.head = nn.Linear(64, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map [n, rows, columns, channels] to logits [n, classes]."""
        x = pictures.permute(0, 3, 1, 2)
        for conv in (self.conv1, self.conv2):
            x = self.pool(torch.relu(conv(x)))
        logits: Tensor = self.head(torch.relu(self.dense(x.flatten(1))))
        return logits
