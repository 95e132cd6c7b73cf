"""The client's work in torch: training inside a mask, evaluation and gradients."""

from caafp_app.training.evaluation import (
    Score,
    evaluate,
    full_gradient,
    probabilities,
)
from caafp_app.training.local import LocalTraining, decay, seeded, train
from caafp_app.training.state import dump_arrays, load_arrays, place
from caafp_app.training.stopping import MOST_EPOCHS, Stopped, Stopping, clearly_better, how_long

__all__ = [
    "MOST_EPOCHS",
    "LocalTraining",
    "Score",
    "Stopped",
    "Stopping",
    "clearly_better",
    "decay",
    "dump_arrays",
    "evaluate",
    "full_gradient",
    "how_long",
    "load_arrays",
    "place",
    "probabilities",
    "seeded",
    "train",
]
