"""Tasks of many clients done as one stack: training, scores and gradients.

The numbers are those of `caafp_app.training`, client by client, but for the order in which floats
are added, and for dropout, which is drawn for the whole stack at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from caafp_app.client.tasks import Evaluate, Fit, Fitted, Gradient, Task
from caafp_app.engine.batches import Batches, passing_batches, training_batches
from caafp_app.engine.device import DeviceArrays, captured
from caafp_app.engine.forward import Forward, stacked
from caafp_app.engine.parameters import StackedParameters
from caafp_app.training import Score, macro_f1, seeded
from caafp_app.training.optimizers import make_optimizer

PASSING_BATCH = 256
"""Windows of a client in one step of a pass without training."""
_FEW_STEPS = 8
"""To record a step takes about as long as so many steps."""


def fit(model: nn.Module, tasks: Sequence[Fit], on_device: DeviceArrays) -> list[Fitted]:
    """Train clients together: the stacked `training.train`.

    Parameters
    ----------
    model : nn.Module
        The network, on the device.
    tasks : sequence of Fit
        Of equal epochs, batch size, learning rate, proximal weight and optimiser.
    on_device : DeviceArrays
        Where windows are kept.
    """
    how = tasks[0].how
    parameters = StackedParameters(model, [t.arrays for t in tasks], [t.mask for t in tasks])
    values, gradient = parameters.values, parameters.gradient
    optimizer = make_optimizer(
        how.optimizer, values, gradient, how.learning_rate, parameters.prunable, how.density
    )
    centre = parameters.gather([t.anchor for t in tasks]) if how.proximal else values
    batches = training_batches([len(t.classes) for t in tasks], [t.how for t in tasks])
    model.train()
    seed = np.random.SeedSequence([t.how.seed for t in tasks]).generate_state(1)[0]
    mean_loss = torch.zeros(len(tasks), device=values.device)
    share, steps = batches.share.to(values.device), batches.steps.to(values.device)
    shortest = int(batches.steps.min())
    with seeded(int(seed)), torch.enable_grad():
        losses = _losses(model, parameters, tasks, batches, on_device)
        for step in range(len(batches.rows)):
            mean_loss += share[step] * losses(step)
            if how.proximal:
                gradient.add_(values - centre, alpha=how.proximal)
            if parameters.mask is not None:
                gradient.mul_(parameters.mask)
            before = values.clone() if step >= shortest else None
            optimizer.step()
            if before is not None:  # who has taken all steps stays where it is
                values.copy_(torch.where((steps > step).unsqueeze(1), values, before))
            gradient.zero_()
    rows = parameters.rows(values)
    return [Fitted(float(loss), row) for loss, row in zip(mean_loss, rows, strict=True)]


@torch.no_grad()
def evaluate(model: nn.Module, tasks: Sequence[Evaluate], on_device: DeviceArrays) -> list[Score]:
    """Score the models of clients: the stacked `training.evaluate`."""
    sizes = [len(t.classes) for t in tasks]
    if not any(sizes):
        return [Score(float("nan"), float("nan"), 0)] * len(tasks)
    parameters = StackedParameters(model, [t.arrays for t in tasks])
    windows, classes = _data(tasks, on_device)
    batches = passing_batches(sizes, PASSING_BATCH)
    model.eval()
    forward = stacked(model)
    kinds = tasks[0].network.classes
    hits = torch.zeros(len(tasks), kinds, device=windows.device)
    predicted, true = torch.zeros_like(hits), torch.zeros_like(hits)
    loss = torch.zeros(len(tasks), device=windows.device)
    for rows, weights in _steps(batches, windows.device):
        logits = forward(parameters.by_name, windows[rows])
        target = classes[rows]
        answer = logits.argmax(2)
        hits.scatter_add_(1, target, (answer == target) * weights)
        predicted.scatter_add_(1, answer, weights)
        true.scatter_add_(1, target, weights)
        loss += (_cross_entropy(logits, target) * weights).sum(1)
    nan = float("nan")
    counts = torch.stack([hits, predicted, true], 1).cpu().numpy().astype(np.int64)
    return [
        Score(float(h.sum()) / n, float(total) / n, n, macro_f1(h, p, t))
        if n
        else Score(nan, nan, 0)
        for (h, p, t), total, n in zip(counts, loss, sizes, strict=True)
    ]


def full_gradient(
    model: nn.Module, tasks: Sequence[Gradient], on_device: DeviceArrays
) -> list[dict[str, NDArray[Any]]]:
    """Take the gradient of each client's mean loss: the stacked `training.full_gradient`."""
    sizes = [len(t.classes) for t in tasks]
    parameters = StackedParameters(model, [t.arrays for t in tasks])
    batches = passing_batches(sizes, PASSING_BATCH)
    batches.weights.div_(torch.tensor(sizes).clamp(min=1).view(1, -1, 1))
    model.eval()
    with torch.enable_grad():
        losses = _losses(model, parameters, tasks, batches, on_device)
        for step in range(len(batches.rows)):
            losses(step)
    return parameters.rows(parameters.gradient)


def _losses(
    model: nn.Module,
    parameters: StackedParameters,
    tasks: Sequence[Task],
    batches: Batches,
    on_device: DeviceArrays,
) -> Callable[[int], Tensor]:
    """Return a function of the step: the loss of each client [C]; it adds to the gradient."""
    windows, classes = _data(tasks, on_device)
    forward: Forward = stacked(model)

    def forward_and_backward(rows: Tensor, weights: Tensor) -> Tensor:
        logits = forward(parameters.by_name, windows[rows])
        losses = (_cross_entropy(logits, classes[rows]) * weights).sum(1)
        # The clients share no parameter: the gradient of the sum is that of each.
        parameters.add_gradient(losses.sum())
        return losses.detach()

    rows, weights = batches.rows.to(windows.device), batches.weights.to(windows.device)
    run: Callable[[Tensor, Tensor], Tensor] = forward_and_backward
    if len(rows) > _FEW_STEPS:
        run = captured(run, rows[0], weights[0], parameters.gradient)
    return lambda step: run(rows[step], weights[step])


def _data(tasks: Sequence[Task], on_device: DeviceArrays) -> tuple[Tensor, Tensor]:
    """Return the windows and the classes of all clients, one client after another."""
    return (
        torch.cat([on_device(t.windows) for t in tasks]),
        torch.cat([on_device(t.classes) for t in tasks]),
    )


def _steps(batches: Batches, device: torch.device) -> Iterable[tuple[Tensor, Tensor]]:
    return zip(batches.rows.to(device), batches.weights.to(device), strict=True)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the loss of each window: from [C, n, classes] and [C, n] to [C, n]."""
    flat = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    return flat.view(target.shape)


STACKED: Mapping[type, Callable[..., list[Any]]] = {
    Fit: fit,
    Evaluate: evaluate,
    Gradient: full_gradient,
}
"""What does the tasks of a kind together."""
