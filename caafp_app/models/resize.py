"""Giving a network of a registered kind fewer filters, as many as received arrays have."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from caafp_app.errors import ProtocolError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def resize(model: nn.Module, arrays: "Mapping[str, NDArray[Any]]") -> None:
    """Give parameters and buffers the shapes of `arrays`, in place; their values become zeros.

    Only filters may be fewer: of an array with several axes the first two (outputs and inputs), of
    one with a single axis that one. Convolution, dense and normalisation layers compute by the
    shapes of their arrays, so the network then really is smaller.

    Raises ProtocolError if names differ, or a shape is not a cut of the network's.
    """
    state = model.state_dict()
    if state.keys() != arrays.keys():
        raise ProtocolError(
            f"expected the arrays {', '.join(state)}, found {', '.join(arrays)}: set the same "
            "model on the server and the client"
        )
    for name, tensor in state.items():
        old, new = tuple(tensor.shape), tuple(arrays[name].shape)
        if old == new:
            continue
        fits = len(old) == len(new) and old[2:] == new[2:]
        if not fits or any(not 0 < few <= many for few, many in zip(new, old, strict=True)):
            raise ProtocolError(
                f"array {name!r}: expected {old} with fewer filters, found {new}: set the same "
                "model and data shape on the server and the client"
            )
        path, _, leaf = name.rpartition(".")
        layer = model.get_submodule(path)
        empty = torch.zeros(new, dtype=tensor.dtype, device=tensor.device)
        parameter = isinstance(getattr(layer, leaf), nn.Parameter)
        setattr(layer, leaf, nn.Parameter(empty) if parameter else empty)
    for layer in model.modules():
        _tell_sizes(layer)


def _tell_sizes(layer: nn.Module) -> None:
    """Let a layer's own account of its sizes, which it prints, agree with its arrays."""
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups == 1:
        layer.out_channels, layer.in_channels = layer.weight.shape[:2]
