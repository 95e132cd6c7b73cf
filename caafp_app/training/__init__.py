"""The client's work in torch: training inside a mask, evaluation and gradients."""

from caafp_app.training.evaluation import (
    Score,
    evaluate,
    full_gradient,
    macro_f1,
    probabilities,
)
from caafp_app.training.local import LocalTraining, decay, seeded, train
from caafp_app.training.state import dump_arrays, load_arrays, place

__all__ = [
    "LocalTraining",
    "Score",
    "decay",
    "dump_arrays",
    "evaluate",
    "full_gradient",
    "load_arrays",
    "macro_f1",
    "place",
    "probabilities",
    "seeded",
    "train",
]
