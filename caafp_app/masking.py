"""Holding a mask while a torch model is trained, with any optimiser.

For a ClientApp of one's own that wants to train inside the mask of `current_mask`. (Our own app
trains on flat parameters instead, see `training`: the same result, and no import of torch's
compiler.)
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caafp_app.errors import ProtocolError


@contextmanager
def masked(
    model: nn.Module,
    mask: Mapping[str, NDArray[np.bool_]] | None,
    *optimizers: torch.optim.Optimizer,
) -> Iterator[None]:
    """Hold `mask` while the block trains `model`.

    Law: pruned weights are exactly zero when the block begins, after each step of the optimisers,
    and when it ends; their gradients, and what the optimisers remember of them (momentum), are
    zero too, so that a weight which grows back starts afresh. Where nothing is pruned nothing is
    changed, to the bit.

    Parameters
    ----------
    model : nn.Module
        The model that is trained.
    mask : mapping of str to ndarray of bool, or None
        True where a weight is active, by name and shape of arrays of the model's ``state_dict``,
        as `current_mask` returns it; arrays that it does not name are not pruned. None: dense.
    *optimizers : torch.optim.Optimizer
        Those that step inside the block: any of ``torch.optim``, or derived from its base class.

    Raises
    ------
    ProtocolError
        A name or a shape is not of the model.

    Examples
    --------
    >>> with masked(model, current_mask(context), optimizer):  # doctest: +SKIP
    ...     train(model, optimizer, batches)
    """
    pruned = _pruned(model, mask or {})

    def clear(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        _zero(pruned)
        with torch.no_grad():
            for tensor, gone in pruned:
                for kept in optimizer.state.get(tensor, {}).values():
                    if isinstance(kept, Tensor) and kept.shape == tensor.shape:
                        kept.masked_fill_(gone.to(kept.device), 0)

    with ExitStack() as hooks:
        for tensor, gone in pruned:
            if tensor.requires_grad:
                hook = partial(_without, gone=gone)
                handle = tensor.register_hook(hook)  # type: ignore[no-untyped-call]
                hooks.callback(handle.remove)
        for optimizer in optimizers:
            hooks.callback(optimizer.register_step_post_hook(clear).remove)
            clear(optimizer)
        _zero(pruned)
        yield
        _zero(pruned)


def _pruned(model: nn.Module, mask: Mapping[str, NDArray[np.bool_]]) -> list[tuple[Tensor, Tensor]]:
    """Return each tensor that has pruned weights, and where they are.

    Tied parameters stand in a ``state_dict`` under each of their names, and each mask is put on.
    """
    tensors = model.state_dict(keep_vars=True)
    pairs = []
    for name, active in mask.items():
        tensor = tensors.get(name)
        if tensor is None or tuple(tensor.shape) != active.shape:
            found = "no such array" if tensor is None else f"shape {tuple(tensor.shape)}"
            raise ProtocolError(
                f"mask of {name!r}: expected a model whose state_dict has it, of shape "
                f"{active.shape}, found {found}; the mask has the names of the ArrayRecord that "
                "was sent"
            )
        if not active.all():
            pairs.append((tensor, torch.from_numpy(~active).to(tensor.device)))
    return pairs


def _zero(pruned: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for tensor, gone in pruned:
            tensor.masked_fill_(gone.to(tensor.device), 0)


def _without(gradient: Tensor, gone: Tensor) -> Tensor:
    """Return the gradient with zeros at pruned weights; a sparse one (of embeddings) as well."""
    gone = gone.to(gradient.device)
    if not gradient.is_sparse:
        return gradient.masked_fill(gone, 0)
    gradient = gradient.coalesce()
    where = gradient.indices()
    values = gradient.values().masked_fill(gone[tuple(where)], 0)
    return torch.sparse_coo_tensor(
        where, values, gradient.shape, is_coalesced=True, check_invariants=False
    )
