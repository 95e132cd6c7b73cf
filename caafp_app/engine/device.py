"""What a device has room for: arrays that stay there, and how many clients fit beside them."""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caafp_app.client.tasks import Task
from caafp_app.engine.forward import stacked

_CPU_BUDGET = 1 << 30
_SHARE_OF_MEMORY = 0.4


class DeviceArrays:
    """Arrays on a device, each copied there once and kept as long as its array lives."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self._kept: dict[int, Tensor] = {}

    def __call__(self, array: NDArray[Any]) -> Tensor:
        """Return the array on the device."""
        if self.device.type == "cpu":
            return torch.from_numpy(array)
        found = self._kept.get(id(array))
        if found is None:
            found = self._kept[id(array)] = torch.from_numpy(array).to(self.device)
            weakref.finalize(array, self._kept.pop, id(array), None)
        return found


def clients_at_once(model: nn.Module, tasks: Sequence[Task], batch: int) -> int:
    """Return how many clients of some tasks fit in a share of the device's memory, at least 1.

    Counted are what one client's forward pass of a batch leaves for its backward pass, its
    parameters with gradient, mask, anchor and the optimiser's state, and its windows.
    """
    task = tasks[0]
    device = next(model.parameters()).device
    parameters = {n: p.detach().unsqueeze(0).requires_grad_() for n, p in model.named_parameters()}
    saved = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.nbytes
        return tensor

    windows = torch.zeros(1, batch, *task.network.input_shape, device=device)
    hooks = torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor)
    with torch.enable_grad(), hooks:
        stacked(model)(parameters, windows)
    numbers = sum(p.numel() for p in parameters.values())
    largest = max(t.windows.nbytes for t in tasks)
    # Twice what is saved: the backward pass makes gradients of the same sizes.
    return max(1, _budget(device) // (2 * saved + 8 * 4 * numbers + largest))


def _budget(device: torch.device) -> int:
    if device.type != "cuda":
        return _CPU_BUDGET
    # Not what is free now: dropout is drawn for a stack, so the seeds have to decide its size.
    return int(_SHARE_OF_MEMORY * torch.cuda.get_device_properties(device).total_memory)
