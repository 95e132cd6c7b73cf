"""Which windows each client of a stack sees in which step, and what each of them weighs.

The windows of all clients stand one after another in one array; a step is a row number and a weight
for each client and place in its batch. Where a client has fewer windows than the others, its first
window fills the place, with weight zero: it adds exactly zero to loss and gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from caafp_app.training import LocalTraining


@dataclass(frozen=True, eq=False)
class Batches:
    """The steps of a stack of C clients.

    `rows`, int64 [steps, C, batch], point into the windows of all clients. `weights`, float32 of
    the same shape, sum to 1 for each client and step, or to 0 where it has no windows left.
    `share`, float32 [steps, C], says how much of the client's mean loss of the last epoch the step
    is; `steps`, int64 [C], how many steps each client takes, its last ones having weight zero.
    """

    rows: Tensor
    weights: Tensor
    share: Tensor
    steps: Tensor


def training_batches(sizes: Sequence[int], hows: Sequence[LocalTraining]) -> Batches:
    """Shuffle as `training.train` does: by the seed of each client, anew in each epoch.

    With dropout, `training.train` on a CPU draws that from the same generator; the orders are then
    equal in the first epoch alone. `sizes` are the windows of each client; all `hows` have the same
    batch size.
    """
    batch = min(hows[0].batch_size, max(sizes))
    counts = torch.tensor([-(-size // batch) for size in sizes])
    steps = counts * torch.tensor([how.epochs for how in hows])
    made = _empty(int(steps.max()), len(sizes), batch, steps)
    offset = 0
    for client, (size, how) in enumerate(zip(sizes, hows, strict=True)):
        generator = torch.Generator().manual_seed(how.seed)
        count = int(counts[client])
        place = torch.arange(count * batch).view(count, batch)
        here = (place < size).float()
        length = here.sum(1)
        made.rows[:, client] = offset
        for epoch in range(how.epochs):
            part = slice(epoch * count, (epoch + 1) * count)
            order = torch.randperm(size, generator=generator)
            made.rows[part, client] = offset + order[place.clamp(max=size - 1)] * (place < size)
            made.weights[part, client] = here / length.unsqueeze(1)
        made.share[int(steps[client]) - count : int(steps[client]), client] = length / size
        offset += size
    return made


def passing_batches(sizes: Sequence[int], batch: int) -> Batches:
    """Pass over all windows once, in order, `batch` of a client in a step; each weighs 1.

    `sizes` are the windows of each client; not all may be 0.
    """
    batch = min(batch, max(sizes))
    steps = torch.tensor([-(-size // batch) for size in sizes])
    made = _empty(int(steps.max()), len(sizes), batch, steps)
    place = torch.arange(len(made.rows) * batch).view(len(made.rows), batch)
    offset = 0
    for client, size in enumerate(sizes):
        # A client without windows borrows one of another; its weights are all zero.
        made.rows[:, client] = min(offset, sum(sizes) - 1) + place * (place < size)
        made.weights[:, client] = (place < size).float()
        offset += size
    return made


def _empty(steps: int, clients: int, batch: int, each: Tensor) -> Batches:
    rows = torch.zeros(steps, clients, batch, dtype=torch.int64)
    weights = torch.zeros(steps, clients, batch)
    return Batches(rows, weights, torch.zeros(steps, clients), each)
