"""Networks by name.

A network is made by ``network(input_shape, classes)``. It takes windows ``[n, *input_shape]``,
float32, and returns logits ``[n, classes]``. Its initial weights depend on the seed alone. A class
whose layers form a chain, each fed by the one before it alone, says so with ``chain = True``: then
whole filters can be removed from it.
"""

from collections.abc import Callable

import torch
from torch import nn

from caafp_app.errors import SettingsError
from caafp_app.registry import NETWORKS

Network = Callable[[tuple[int, ...], int], nn.Module]


def build_model(name: str, input_shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """Build a network with initial weights drawn from `seed`.

    The process's own random state is left as it was. Raises SettingsError if the name or path is
    unknown, what it names makes no network, or the network cannot take windows of this shape.
    """
    network: Network = NETWORKS[name]
    if not callable(network):
        raise SettingsError(f"model: expected a network class at {name!r}, found {network!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network(tuple(input_shape), classes)
        if not isinstance(model, nn.Module):
            raise SettingsError(
                f"model: expected {name!r} to make a torch.nn.Module, found {type(model).__name__}"
            )
        for module in model.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                _initialise(module)
    return model


def _initialise(layer: nn.Conv1d | nn.Conv2d | nn.Linear) -> None:
    """Glorot-uniform weights and zero biases, as the paper's Keras layers have."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
