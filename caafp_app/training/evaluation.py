"""One pass over all windows in evaluation mode: a score, probabilities, or the gradient."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from caafp_app.training.flat import FlatParameters

EVALUATION_BATCH = 1024


@dataclass(frozen=True)
class Score:
    """How well a model does on some windows.

    Attributes
    ----------
    accuracy : float
        Share of windows that are right; NaN without windows.
    loss : float
        Mean cross-entropy in nats.
    examples : int
    f1 : float
        Macro-F1: see `macro_f1`.
    """

    accuracy: float
    loss: float
    examples: int
    f1: float = float("nan")


def macro_f1(
    hits: NDArray[np.integer], predicted: NDArray[np.integer], true: NDArray[np.integer]
) -> float:
    """Return the mean over classes of the harmonic mean of precision and recall.

    Every class counts alike, however many windows it has. A class that neither occurs nor is
    predicted is left out, because nothing is known of it.

    Parameters
    ----------
    hits, predicted, true : ndarray of int [classes]
        Windows that were rightly given each class, that were given it, and that are of it.

    Returns
    -------
    float
        In [0, 1]; NaN without windows.
    """
    seen = predicted + true
    there = seen > 0
    return float(np.mean(2.0 * hits[there] / seen[there])) if there.any() else float("nan")


@torch.no_grad()
def evaluate(model: nn.Module, windows: NDArray[np.float32], classes: NDArray[np.int64]) -> Score:
    """Score `model` in evaluation mode; no windows give accuracy and loss NaN.

    Parameters
    ----------
    model : nn.Module
        Takes float32 [batch, time, channels], returns logits [batch, classes].
    windows : ndarray of float32 [n, time, channels]
    classes : ndarray of int64 [n]

    Returns
    -------
    Score
        Accuracy in [0, 1], mean cross-entropy in nats, n, and macro-F1.
    """
    if len(classes) == 0:
        return Score(float("nan"), float("nan"), 0)
    model.eval()
    loss, answers = 0.0, []
    for batch, target in _batches(model, windows, classes):
        logits = model(batch)
        answers.append(logits.argmax(1))
        loss += functional.cross_entropy(logits, target, reduction="sum").item()
    answer = torch.cat(answers).cpu().numpy()
    right = answer == classes
    kinds = int(max(answer.max(), classes.max())) + 1
    counts = (np.bincount(of, minlength=kinds) for of in (answer[right], answer, classes))
    count = len(classes)
    return Score(int(right.sum()) / count, loss / count, count, macro_f1(*counts))


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


def _batches(
    model: nn.Module, windows: NDArray[np.float32], classes: NDArray[np.int64]
) -> Iterator[tuple[Tensor, Tensor]]:
    device = next(model.parameters()).device
    for start in range(0, len(classes), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        yield torch.from_numpy(windows[part]).to(device), torch.from_numpy(classes[part]).to(device)
