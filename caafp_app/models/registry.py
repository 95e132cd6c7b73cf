"""The registry of torch models.

A model takes windows ``[n, *input_shape]`` as the data sets hold them, float32, and returns logits
``[n, classes]``. Initial weights depend on the seed alone.
"""

from collections.abc import Callable

import torch
from torch import nn

from caafp_app.errors import SettingsError
from caafp_app.models.deep_conv_lstm import DeepConvLSTM
from caafp_app.models.digits_cnn import DigitsCNN
from caafp_app.models.har_cnn import HarCNN
from caafp_app.models.resnet1d import ResNet1d
from caafp_app.models.sensor_fusion import SensorFusion
from caafp_app.models.transformer import TransformerEncoder

ModelFactory = Callable[[tuple[int, ...], int], nn.Module]
MODELS: dict[str, ModelFactory] = {
    "har-cnn": HarCNN,
    "digits-cnn": DigitsCNN,
    "deep-conv-lstm": DeepConvLSTM,
    "resnet1d": ResNet1d,
    "transformer": TransformerEncoder,
    "sensor-fusion": SensorFusion,
}


def build_model(name: str, input_shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """Build a registered model with initial weights drawn from `seed`.

    The process's own random state is left as it was.

    Raises
    ------
    SettingsError
        If the name is unknown or the model cannot take such windows.
    """
    if name not in MODELS:
        raise SettingsError(f"unknown model {name!r}; expected one of {', '.join(MODELS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MODELS[name](tuple(input_shape), classes)
        for module in model.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                _initialise(module)
    return model


def _initialise(layer: nn.Conv1d | nn.Conv2d | nn.Linear) -> None:
    """Glorot-uniform weights and zero biases, as the paper's Keras layers have."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
