"""A model's state as named arrays, in and out, and the device it lies on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

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
