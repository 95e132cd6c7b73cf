"""Tasks of many clients done as one stack: training, its length, scores and gradients.

The numbers are those of `caafp_app.training`, client by client, but for the order in which floats
are added, and for dropout, which is drawn for the whole stack at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from caafp_app.client.tasks import Evaluate, Fit, Fitted, Gradient, HowLong, Task
from caafp_app.engine.batches import Batches, passing_batches, training_batches
from caafp_app.engine.device import DeviceArrays
from caafp_app.engine.forward import Forward, stacked
from caafp_app.engine.parameters import StackedParameters
from caafp_app.training import Score, Stopped, Stopping, seeded
from caafp_app.training.optimizers import make_optimizer

PASSING_BATCH = 256
"""Windows of a client in one step of a pass without training."""


def fit(model: nn.Module, tasks: Sequence[Fit], on_device: DeviceArrays) -> list[Fitted]:
    """Train clients together: the stacked `training.train`.

    The tasks are of equal batch size, learning rate, proximal weight and optimiser.
    """
    training = _Training(model, tasks, on_device)
    for _ in training.steps():
        pass
    rows = training.parameters.rows(training.parameters.values)
    return [Fitted(float(loss), row) for loss, row in zip(training.loss, rows, strict=True)]


def how_long(model: nn.Module, tasks: Sequence[HowLong], on_device: DeviceArrays) -> list[Stopped]:
    """Find for each client after how many epochs to stop: the stacked `training.how_long`.

    All train until the last one stops. They end their epochs at steps of their own, at each of
    which the whole stack is scored.
    """
    training = _Training(model, tasks, on_device)
    held, kinds = [t.held for t in tasks], tasks[0].network.classes

    def scores() -> list[Score]:
        found = _scores(model, training.parameters, held, kinds, on_device)
        model.train()
        return found

    several = [len(np.unique(classes)) > 1 for _, classes in held]
    stops = [Stopping(s, several=more) for s, more in zip(scores(), several, strict=True)]
    counts = training.batches.steps // tasks[0].how.epochs
    for step in training.steps():
        ended = torch.nonzero((step + 1) % counts == 0).flatten().tolist()
        found = scores() if ended else []
        for client in ended:
            if not stops[client].over:
                stops[client].add((step + 1) // int(counts[client]), found[client])
        if all(stop.over for stop in stops):
            break
    return [stop.best for stop in stops]


class _Training:
    """The training of a stack: its parameters, its batches, and a step after another."""

    def __init__(self, model: nn.Module, tasks: Sequence[Fit], on_device: DeviceArrays) -> None:
        self.model, self.tasks, self.on_device = model, tasks, on_device
        self.parameters = StackedParameters(
            model, [t.arrays for t in tasks], [t.mask for t in tasks]
        )
        sizes = [len(t.classes) for t in tasks]
        self.batches = training_batches(sizes, [t.how for t in tasks])
        self.loss = torch.zeros(len(tasks), device=self.parameters.values.device)

    def steps(self) -> Iterator[int]:
        """Train, and yield the number of each step when it is done."""
        model, tasks, batches, parameters = self.model, self.tasks, self.batches, self.parameters
        how = tasks[0].how
        values, gradient = parameters.values, parameters.gradient
        optimizer = make_optimizer(
            how.optimizer, values, gradient, how.learning_rate, parameters.prunable, how.density
        )
        centre = parameters.gather([t.anchor for t in tasks]) if how.proximal else values
        model.train()
        seed = np.random.SeedSequence([t.how.seed for t in tasks]).generate_state(1)[0]
        share, steps = batches.share.to(values.device), batches.steps.to(values.device)
        shortest = int(batches.steps.min())
        with seeded(int(seed)), torch.enable_grad():
            losses = _losses(model, parameters, tasks, batches, self.on_device)
            for step in range(len(batches.rows)):
                self.loss += share[step] * losses(step)
                if how.proximal:
                    gradient.add_(values - centre, alpha=how.proximal)
                if parameters.mask is not None:
                    gradient.mul_(parameters.mask)
                before = values.clone() if step >= shortest else None
                optimizer.step()
                if before is not None:  # who has taken all steps stays where it is
                    values.copy_(torch.where((steps > step).unsqueeze(1), values, before))
                gradient.zero_()
                yield step


@torch.no_grad()
def evaluate(model: nn.Module, tasks: Sequence[Evaluate], on_device: DeviceArrays) -> list[Score]:
    """Score the models of clients: the stacked `training.evaluate`."""
    parameters = StackedParameters(model, [t.arrays for t in tasks])
    data = [(t.windows, t.classes) for t in tasks]
    return _scores(model, parameters, data, tasks[0].network.classes, on_device)


@torch.no_grad()
def _scores(
    model: nn.Module,
    parameters: StackedParameters,
    data: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
    kinds: int,
    on_device: DeviceArrays,
) -> list[Score]:
    """Score each client's parameters on windows of its own, of as many classes as `kinds`."""
    sizes = [len(classes) for _, classes in data]
    if not any(sizes):
        return [Score(float("nan"), float("nan"), 0)] * len(sizes)
    windows, classes = _joined(data, on_device)
    batches = passing_batches(sizes, PASSING_BATCH)
    model.eval()
    forward = stacked(model)
    pairs = torch.zeros(len(sizes), kinds * kinds, device=windows.device)
    loss = torch.zeros(len(sizes), device=windows.device)
    steps = (part.to(windows.device) for part in (batches.rows, batches.weights))
    for rows, weights in zip(*steps, strict=True):
        logits = forward(parameters.by_name, windows[rows])
        target = classes[rows]
        pairs.scatter_add_(1, target * kinds + logits.argmax(2), weights)
        loss += (_cross_entropy(logits, target) * weights).sum(1)
    nan = float("nan")
    counts = pairs.view(-1, kinds, kinds).cpu().numpy().astype(np.int64)
    return [
        Score(float(of.trace()) / n, float(total) / n, n, of) if n else Score(nan, nan, 0)
        for of, total, n in zip(counts, loss, sizes, strict=True)
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
    windows, classes = _joined([(t.windows, t.classes) for t in tasks], on_device)
    forward: Forward = stacked(model)
    rows, weights = batches.rows.to(windows.device), batches.weights.to(windows.device)

    def forward_and_backward(step: int) -> Tensor:
        logits = forward(parameters.by_name, windows[rows[step]])
        losses = (_cross_entropy(logits, classes[rows[step]]) * weights[step]).sum(1)
        # The clients share no parameter: the gradient of the sum is that of each.
        parameters.add_gradient(losses.sum())
        return losses.detach()

    return forward_and_backward


def _joined(
    data: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]], on_device: DeviceArrays
) -> tuple[Tensor, Tensor]:
    """Return the windows and the classes of all clients, one client after another."""
    windows, classes = zip(*data, strict=True)
    return torch.cat([on_device(x) for x in windows]), torch.cat([on_device(y) for y in classes])


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the loss of each window: from [C, n, classes] and [C, n] to [C, n]."""
    flat = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    return flat.view(target.shape)


STACKED: Mapping[type, Callable[..., list[Any]]] = {
    Fit: fit,
    HowLong: how_long,
    Evaluate: evaluate,
    Gradient: full_gradient,
}
"""What does the tasks of a kind together."""
