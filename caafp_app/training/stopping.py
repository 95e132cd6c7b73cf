"""How long to fine-tune: until windows that were held out say that it no longer helps."""

from contextlib import closing
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from caafp_app.training.evaluation import Score, evaluate
from caafp_app.training.local import LocalTraining, epochs
from caafp_app.training.state import Arrays

MOST_EPOCHS = 50
"""After which training stops in any case."""

PATIENCE = 15
"""Epochs in a row that do not improve the model, after which training stops."""


class Stopped(NamedTuple):
    """After how many epochs the model was best (0: as it came), and its score then."""

    epochs: int
    score: Score


CLEARLY = 5
"""Windows held out that a model has to have right, and another wrong, to be clearly better: if each
of five were as likely either way, all would be for one of them once in 32 times."""


def clearly_better(score: Score, than: Score) -> bool:
    """Say whether a model has `CLEARLY` more of the same windows right than another."""
    return round((score.accuracy - than.accuracy) * score.examples) >= CLEARLY


class Stopping:
    """Takes the score on held-out windows after each epoch, and says when to stop.

    Of two epochs the better one classifies more windows correctly; of equals, the one of less
    loss. The model as it came, of score `score`, was trained on these windows in the rounds, and
    looks better than it is: it has to be clearly better than the best epoch. With windows of one
    class only (not `several`), whose loss falls for as long as the model unlearns the others, the
    earliest of equals is the best, the model as it came included.
    """

    def __init__(self, score: Score, *, several: bool) -> None:
        self.over = False
        self._start = Stopped(0, score)
        self._best: Stopped | None = None
        self._several = several

    @property
    def best(self) -> Stopped:
        """The best epoch so far, or the model as it came."""
        start, best = self._start, self._best
        if best is None or clearly_better(start.score, best.score):
            return start
        return best if self._several or best.score.accuracy > start.score.accuracy else start

    def add(self, epoch: int, score: Score) -> None:
        """Take the score after an epoch, numbered from 1."""
        if self._best is None or self._better(score, self._best.score):
            self._best = Stopped(epoch, score)
        self.over = self.over or epoch - self._best.epochs >= PATIENCE

    def _better(self, score: Score, best: Score) -> bool:
        if score.accuracy != best.accuracy:
            return score.accuracy > best.accuracy
        return self._several and score.loss < best.loss


def how_long(
    model: nn.Module,
    windows: NDArray[np.float32],
    classes: NDArray[np.int64],
    held: tuple[NDArray[np.float32], NDArray[np.int64]],
    how: LocalTraining,
    mask: Arrays | None = None,
    anchor: Arrays | None = None,
) -> Stopped:
    """Train until held-out windows say stop, or for `how.epochs`; see `local.epochs`.

    `held` are windows [n, time, channels] and classes [n] that are not trained on, n above 0.
    """
    stopping = Stopping(evaluate(model, *held), several=len(np.unique(held[1])) > 1)
    with closing(epochs(model, windows, classes, how, mask, anchor)) as training:
        for epoch, _ in enumerate(training, start=1):
            stopping.add(epoch, evaluate(model, *held))
            if stopping.over:
                break
    return stopping.best
