"""The parameters of several clients as one matrix, a row each: the stacked `FlatParameters`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caafp_app.client.tasks import Arrays, Mask


class StackedParameters:
    """The parameters of C clients, of P numbers each; the model is left as it is.

    `values` and `gradient` are float32 [C, P], `mask` is 1 where a weight is active or None where
    all are, `prunable` [P] has those of parameters with two or more axes. `by_name` has the
    parameters as a stacked network takes them: [C, *shape], views of `values`.
    """

    def __init__(
        self,
        model: nn.Module,
        arrays: Sequence[Arrays],
        masks: Sequence[Mask | None] = (),
    ) -> None:
        self._places: dict[str, tuple[slice, torch.Size]] = {}
        stop = 0
        for name, parameter in model.named_parameters():
            self._places[name] = (slice(stop, stop + parameter.numel()), parameter.shape)
            stop += parameter.numel()
        self._size = stop
        self._device = next(model.parameters()).device
        wide = [torch.full((p.numel(),), p.ndim > 1) for p in model.parameters()]
        self.prunable = torch.cat(wide).to(self._device)
        self.values = self.gather(arrays)
        self.gradient = torch.zeros_like(self.values)
        self.mask: Tensor | None = None
        if any(masks):
            self.mask = self.gather([mask or {} for mask in masks], fill=1.0)
            self.values.mul_(self.mask)
        self.by_name = {name: part.requires_grad_() for name, part in self._parts(self.values)}

    def add_gradient(self, loss: Tensor) -> None:
        """Add the gradient of a scalar to `gradient`."""
        found = torch.autograd.grad(loss, list(self.by_name.values()), materialize_grads=True)
        for part, (_, whole) in zip(found, self._parts(self.gradient), strict=True):
            whole.add_(part)

    def gather(self, arrays: Sequence[Arrays], fill: float | None = None) -> Tensor:
        """Return named arrays of each client as a matrix [C, P], with `fill` for those missing."""
        matrix = np.empty((len(arrays), self._size), np.float32)
        for row, named in zip(matrix, arrays, strict=True):
            for name, (place, _) in self._places.items():
                row[place] = fill if fill is not None and name not in named else named[name].ravel()
        return torch.from_numpy(matrix).to(self._device)

    def rows(self, matrix: Tensor) -> list[dict[str, NDArray[Any]]]:
        """Take a matrix [C, P] apart: for each client its arrays, by name and shape."""
        on_host = matrix.detach().cpu().numpy()
        return [
            {name: row[place].reshape(shape) for name, (place, shape) in self._places.items()}
            for row in on_host
        ]

    def _parts(self, matrix: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield each parameter's name and its part of a matrix [C, P], as a view [C, *shape]."""
        for name, (place, shape) in self._places.items():
            yield name, matrix[:, place].view(len(matrix), *shape)
