"""A model's state as named arrays, in and out, its device, and its parameters as one vector."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caafp_app.errors import ProtocolError, SettingsError

Arrays = Mapping[str, NDArray[Any]]


def load_arrays(model: nn.Module, arrays: Arrays) -> None:
    """Copy named arrays into the model's state; ProtocolError if they are not the model's."""
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ProtocolError(
            f"the received arrays are not those of this client's model: {error}; "
            "set the same model and data shape on the server and the client"
        ) from error


def dump_arrays(model: nn.Module) -> dict[str, NDArray[Any]]:
    """Copy the model's state out as named arrays."""
    return {
        name: tensor.detach().cpu().numpy().copy() for name, tensor in model.state_dict().items()
    }


def place(model: nn.Module, device: str) -> nn.Module:
    """Move `model` to a device by its torch name; SettingsError if this machine has none such."""
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"device={device!r} is not to be had here ({error}); set device='cpu'"
        ) from error


class FlatParameters:
    """The trainable parameters of a model as one vector, with gradient and mask alongside.

    So mask and optimiser are a handful of operations, whatever the number of layers. The
    model's parameters are replaced by views of `self.values`, their gradients by views of
    `self.gradient`. `mask` is true where a weight is active; what it does not name is not masked.
    """

    def __init__(self, model: nn.Module, mask: Arrays | None = None) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        size = sum(p.numel() for _, p in named)
        device = named[0][1].device if named else torch.device("cpu")
        self.values = torch.empty(size, device=device)
        self.gradient = torch.zeros(size, device=device)
        self.mask = torch.ones(size, device=device) if mask else None
        self.prunable = torch.zeros(size, dtype=torch.bool, device=device)
        self._places: dict[str, tuple[slice, torch.Size]] = {}
        start = 0
        for name, parameter in named:
            place = slice(start, start + parameter.numel())
            self._places[name] = (place, parameter.shape)
            self.prunable[place] = parameter.ndim > 1
            self.values[place] = parameter.data.reshape(-1)
            parameter.data = self.values[place].view(parameter.shape)
            parameter.grad = self.gradient[place].view(parameter.shape)
            if self.mask is not None and mask and name in mask:
                self.mask[place] = torch.from_numpy(mask[name].astype(np.float32)).reshape(-1)
            start = place.stop
        if self.mask is not None:
            self.values.mul_(self.mask)

    def gather(self, arrays: Arrays) -> Tensor:
        """Return named arrays of the parameters' names and shapes as one vector."""
        flat = torch.empty_like(self.values)
        for name, (place, _) in self._places.items():
            flat[place] = torch.from_numpy(np.array(arrays[name], dtype=np.float32)).reshape(-1)
        return flat

    def mask_gradient(self) -> None:
        """Set the gradient to zero at pruned positions."""
        if self.mask is not None:
            self.gradient.mul_(self.mask)

    def gradient_by_name(self) -> dict[str, NDArray[np.float32]]:
        """Copy the gradient out, by parameter name and shape."""
        return {
            name: self.gradient[place].view(shape).cpu().numpy().copy()
            for name, (place, shape) in self._places.items()
        }
