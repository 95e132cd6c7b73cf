"""How long a client fine-tunes: so many epochs, or as many as its own windows ask for."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from caafp_app.client.tasks import Arrays, Evaluate, Fitted, HowLong, Tasks
from caafp_app.client.work import Work
from caafp_app.datasets.split import hold_out
from caafp_app.training import LocalTraining, Score, Stopped, clearly_better

HELD_SHARE = 0.2
"""Of the train windows, by which a client finds how long to train."""

FEWEST_HELD = 5
"""With fewer windows held out, one of them would decide: the client trains `BLIND_EPOCHS`."""

BLIND_EPOCHS = 3
"""The paper's number."""


LEAST_EPOCHS = 25
"""Of training that goes on at all, by windows of several classes. The rounds trained on the windows
held out, too: that a model knows them after one epoch says little of other windows."""


class Trained(NamedTuple):
    """Mean loss of the last epoch (0 without any), the model, the arrays to send, epochs taken."""

    loss: float
    model: Arrays
    sent: Arrays
    epochs: int


def finetune(work: Work, start: Arrays, how: LocalTraining, rival: Arrays) -> Tasks[Trained]:
    """Train `start`; with ``finetune-epochs=auto`` in a personalise phase, for as long as it helps.

    Then the client holds out the last part of its train windows, trains on the rest while the
    model gets better on that part, and then from the start for as many epochs on all of them, at
    least `LEAST_EPOCHS`. Where the model it started from, or `rival`, the cluster's, is clearly
    better on that part, that one is returned and 0 epochs are taken: see `training.Stopping`.
    """
    if not work.finds_epochs:
        return (yield from _trained(work, start, how))
    data = work.data
    split = hold_out(data, HELD_SHARE, work.settings.data.window_gap)
    if len(split.held_out) < FEWEST_HELD:
        return (yield from _trained(work, start, replace(how, epochs=BLIND_EPOCHS)))
    held = data.train_x[split.held_out], data.train_y[split.held_out]
    x, y = data.train_x[split.train], data.train_y[split.train]
    found: Stopped = yield HowLong(work.network, start, x, y, how, work.mask, work.received, held)
    if rival is not start:
        score: Score = yield Evaluate(work.network, rival, *held)
        if clearly_better(score, found.score):
            return Trained(0.0, rival, rival, 0)
    if found.epochs == 0:
        return Trained(0.0, start, start, 0)
    least = LEAST_EPOCHS if len(np.unique(held[1])) > 1 else 0
    return (yield from _trained(work, start, replace(how, epochs=max(found.epochs, least))))


def _trained(work: Work, start: Arrays, how: LocalTraining) -> Tasks[Trained]:
    fitted: Fitted = yield work.fit(start, how)
    return Trained(fitted.loss, fitted.arrays, fitted.arrays, how.epochs)
