"""One pass over all windows in evaluation mode: a score, probabilities, or the gradient."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from caafp_app.training.state import FlatParameters

EVALUATION_BATCH = 1024


@dataclass(frozen=True)
class Score:
    """How well a model does on some windows; accuracy and loss are NaN without any.

    Attributes
    ----------
    accuracy : float
        Share of windows that are right.
    loss : float
        Mean cross-entropy in nats.
    confusion : ndarray of int64 [classes, classes]
        Windows by their class (rows) and the predicted one (columns); [0, 0] without windows.
    """

    accuracy: float
    loss: float
    examples: int
    confusion: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((0, 0), np.int64), compare=False, repr=False
    )

    @property
    def f1(self) -> float:
        """Macro-F1: the mean over classes of the harmonic mean of precision and recall.

        Every class counts alike, however many windows it has. A class that neither occurs nor is
        predicted is left out, because nothing is known of it. NaN without windows.
        """
        seen = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
        there = seen > 0
        hits = self.confusion.diagonal()[there]
        return float(np.mean(2.0 * hits / seen[there])) if there.any() else float("nan")


@torch.no_grad()
def evaluate(model: nn.Module, windows: NDArray[np.float32], classes: NDArray[np.int64]) -> Score:
    """Score `model` in evaluation mode; no windows give accuracy and loss NaN.

    It maps windows, float32 [n, time, channels], to logits [n, classes]; `classes` are int64 [n].
    """
    if len(classes) == 0:
        return Score(float("nan"), float("nan"), 0)
    model.eval()
    loss, answers, kinds = 0.0, [], 0
    for batch, target in _batches(model, windows, classes):
        logits = model(batch)
        kinds = logits.shape[1]
        answers.append(logits.argmax(1))
        loss += functional.cross_entropy(logits, target, reduction="sum").item()
    answer, count = torch.cat(answers).cpu().numpy(), len(classes)
    pairs = np.bincount(classes * kinds + answer, minlength=kinds * kinds)
    confusion = pairs.reshape(kinds, kinds)
    return Score(int(confusion.trace()) / count, loss / count, count, confusion)


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

    By parameter name and shape. The model's weights are not changed.
    """
    parameters = FlatParameters(model)
    model.eval()
    with torch.enable_grad():
        for batch, target in _batches(model, windows, classes):
            loss = functional.cross_entropy(model(batch), target, reduction="sum")
            (loss / max(len(classes), 1)).backward()  # type: ignore[no-untyped-call]
    return parameters.gradient_by_name()


def _batches(
    model: nn.Module, windows: NDArray[np.float32], classes: NDArray[np.int64]
) -> Iterator[tuple[Tensor, Tensor]]:
    device = next(model.parameters()).device
    for start in range(0, len(classes), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        yield torch.from_numpy(windows[part]).to(device), torch.from_numpy(classes[part]).to(device)
