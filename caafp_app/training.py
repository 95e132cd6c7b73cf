"""Local training inside a mask, evaluation, and gradients: the client's work, in torch.

While a model is trained, its parameters are views of one flat tensor and so are their gradients:
the mask and Adam are a handful of operations on it, whatever the number of layers.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from caafp_app.errors import ProtocolError, SettingsError

Arrays = Mapping[str, NDArray[Any]]
EVALUATION_BATCH = 1024


@dataclass(frozen=True)
class Score:
    """How well a model does on some windows."""

    accuracy: float
    loss: float
    examples: int


@dataclass(frozen=True)
class LocalTraining:
    """How a client trains: see the settings of the same names."""

    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    proximal: float = 0.0
    seed: int = 0


class FlatParameters:
    """The trainable parameters of a model as one vector, with gradient and mask alongside.

    Parameters
    ----------
    model : nn.Module
        Its parameters are replaced by views of `self.values`; their gradients by views of
        `self.gradient`.
    mask : mapping of str to ndarray of bool, optional
        True where a weight is active; parameters it does not name are not masked.
    """

    def __init__(self, model: nn.Module, mask: Arrays | None = None) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        size = sum(p.numel() for _, p in named)
        device = named[0][1].device if named else torch.device("cpu")
        self.values = torch.empty(size, device=device)
        self.gradient = torch.zeros(size, device=device)
        self.mask = torch.ones(size, device=device) if mask else None
        self._places: dict[str, tuple[slice, torch.Size]] = {}
        start = 0
        for name, parameter in named:
            place = slice(start, start + parameter.numel())
            self._places[name] = (place, parameter.shape)
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

    def gradient_by_name(self) -> dict[str, NDArray[np.float32]]:
        """Copy the gradient out, by parameter name and shape."""
        return {
            name: self.gradient[place].view(shape).cpu().numpy().copy()
            for name, (place, shape) in self._places.items()
        }


class MaskedAdam:
    """Adam (Kingma & Ba, 2015, algorithm 1) on flat parameters, inside their mask.

    Gradients at pruned positions are dropped before the moments see them, so a pruned weight is
    exactly zero after every step. Equal to ``torch.optim.Adam`` where nothing is pruned; written
    out because that class imports torch's compiler with its first step, which costs a device more
    than the training itself.
    """

    def __init__(self, parameters: FlatParameters, learning_rate: float) -> None:
        self.parameters = parameters
        self.learning_rate = learning_rate
        self.first = torch.zeros_like(parameters.values)
        self.second = torch.zeros_like(parameters.values)
        self.steps = 0

    def step(self) -> None:
        """Take one step along the gradient and clear it."""
        gradient, values = self.parameters.gradient, self.parameters.values
        if self.parameters.mask is not None:
            gradient.mul_(self.parameters.mask)
        self.steps += 1
        self.first.lerp_(gradient, 0.1)
        self.second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        step_size = self.learning_rate / (1 - 0.9**self.steps)
        denominator = (self.second.sqrt() / (1 - 0.999**self.steps) ** 0.5).add_(1e-8)
        values.addcdiv_(self.first, denominator, value=-step_size)
        gradient.zero_()


def train(
    model: nn.Module,
    windows: NDArray[np.float32],
    classes: NDArray[np.int64],
    how: LocalTraining,
    mask: Arrays | None = None,
    anchor: Arrays | None = None,
) -> float:
    """Train `model` in place by cross-entropy, with a fresh optimiser, inside `mask`.

    With `how.proximal` mu the loss has mu / 2 |w - a|^2 besides, a being `anchor` or, without one,
    the model as it came (Li et al., FedProx).

    Returns
    -------
    float
        Mean loss of the last epoch, without the proximal term.
    """
    parameters = FlatParameters(model, mask)
    device = parameters.values.device
    data, target = torch.from_numpy(windows).to(device), torch.from_numpy(classes).to(device)
    optimiser = MaskedAdam(parameters, how.learning_rate)
    centre = parameters.values.clone() if anchor is None else parameters.gather(anchor)
    mean_loss = 0.0
    model.train()
    with seeded(how.seed), torch.enable_grad():
        for _ in range(how.epochs):
            total = 0.0
            for batch in torch.split(torch.randperm(len(target)), how.batch_size):
                loss = functional.cross_entropy(model(data[batch]), target[batch])
                loss.backward()  # type: ignore[no-untyped-call]
                if how.proximal:
                    drift = parameters.values.detach() - centre
                    parameters.gradient.add_(drift, alpha=how.proximal)
                optimiser.step()
                total += loss.item() * len(batch)
            mean_loss = total / max(len(target), 1)
    return mean_loss


@torch.no_grad()
def evaluate(model: nn.Module, windows: NDArray[np.float32], classes: NDArray[np.int64]) -> Score:
    """Score `model` in evaluation mode; no windows give accuracy and loss NaN."""
    if len(classes) == 0:
        return Score(float("nan"), float("nan"), 0)
    model.eval()
    correct, loss = 0, 0.0
    for batch, target in _batches(model, windows, classes):
        logits = model(batch)
        correct += int((logits.argmax(1) == target).sum())
        loss += functional.cross_entropy(logits, target, reduction="sum").item()
    return Score(correct / len(classes), loss / len(classes), len(classes))


@torch.no_grad()
def probabilities(model: nn.Module, windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what `model` in evaluation mode gives each class [n, classes]; rows sum to 1."""
    model.eval()
    classes = np.zeros(len(windows), np.int64)
    found = [model(batch).double().softmax(1) for batch, _ in _batches(model, windows, classes)]
    return torch.cat(found).cpu().numpy()


def full_gradient(
    model: nn.Module, windows: NDArray[np.float32], classes: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Gradient of the mean loss over all windows, at pruned weights too, without dropout.

    Returns
    -------
    dict of ndarray
        By parameter name and shape. The model's weights are not changed.
    """
    parameters = FlatParameters(model)
    model.eval()
    with torch.enable_grad():
        for batch, target in _batches(model, windows, classes):
            loss = functional.cross_entropy(model(batch), target, reduction="sum")
            (loss / max(len(classes), 1)).backward()  # type: ignore[no-untyped-call]
    return parameters.gradient_by_name()


def load_arrays(model: nn.Module, arrays: Arrays) -> None:
    """Copy named arrays into the model's state.

    Raises
    ------
    ProtocolError
        If names or shapes are not the model's.
    """
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


def decay(round_: int, rounds: int, end: float) -> float:
    """Return the share of the learning rate in a round: 1 at the first, `end` at the last.

    A half cosine between, as in SGDR (Loshchilov & Hutter, 2017): ``end + (1 - end)(1 + cos)/2``.
    """
    place = min(max(round_ - 1, 0) / max(rounds - 1, 1), 1.0)
    return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * place))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator, which dropout and shuffling use, and put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _batches(
    model: nn.Module, windows: NDArray[np.float32], classes: NDArray[np.int64]
) -> Iterator[tuple[Tensor, Tensor]]:
    device = next(model.parameters()).device
    for start in range(0, len(classes), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        yield torch.from_numpy(windows[part]).to(device), torch.from_numpy(classes[part]).to(device)


def place(model: nn.Module, device: str) -> nn.Module:
    """Move `model` to a device by its torch name.

    Raises
    ------
    SettingsError
        If this machine has no such device.
    """
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"device={device!r} is not to be had here ({error}); set device='cpu'"
        ) from error
