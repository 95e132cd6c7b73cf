"""One branch a sensor; a client may lack some of them."""

import torch
from torch import Tensor, nn

from caafp_app.errors import SettingsError

_AXES, _FILTERS = 3, 32


class SensorFusion(nn.Module):
    """A convolutional branch for each sensor of three axes, and one classifier of what they say.

    Windows are (samples, channels). Channels come in threes: accelerometer, then gyroscope (and,
    for UCI HAR, the accelerometer with gravity). A sensor that a client does not have is three
    channels of zeros; its branch then says nothing, the others weigh the more, as with dropout, and
    it is not trained: its weights get no gradient from such windows.
    """

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        if len(input_shape) != 2 or input_shape[0] < 4 or input_shape[1] % _AXES:
            raise SettingsError(
                "model 'sensor-fusion' takes windows of (samples >= 4, channels), three channels a "
                f"sensor, found {input_shape}"
            )
        samples, channels = input_shape
        self.sensors = channels // _AXES
        self.branches = nn.ModuleList(_branch() for _ in range(self.sensors))
        said = _FILTERS * (samples // 4)
        self.dense = nn.ModuleList(nn.Linear(said, _FILTERS) for _ in range(self.sensors))
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(_FILTERS * self.sensors, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Map [n, samples, channels] to logits [n, classes]."""
        said, here = [], []
        for sensor, (branch, dense) in enumerate(zip(self.branches, self.dense, strict=True)):
            x = windows[:, :, sensor * _AXES : (sensor + 1) * _AXES]
            present = (x != 0).flatten(1).any(1, keepdim=True).to(x.dtype)
            said.append(torch.relu(dense(branch(x.transpose(1, 2)).flatten(1))) * present)
            here.append(present)
        share = torch.cat(here, 1).mean(1, keepdim=True).clamp(min=1 / self.sensors)
        logits: Tensor = self.head(self.drop(torch.cat(said, 1) / share))
        return logits


def _branch() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(_AXES, _FILTERS, 5, padding=2),
        nn.MaxPool1d(2),
        nn.ReLU(),
        nn.Conv1d(_FILTERS, _FILTERS, 5, padding=2),
        nn.MaxPool1d(2),
        nn.ReLU(),
    )
