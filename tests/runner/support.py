"""A small model with all kinds of arrays, and updates for it."""

import numpy as np

from caafp_app.protocol.gradient import SparseGradient
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action
from caafp_app.registry import AGGREGATIONS
from caafp_app.runner.model import SparseModel
from caafp_app.runner.query import Query, Update
from caafp_app.runner.summed import Summed
from caafp_app.vectors.scan import peak_of

ARRAYS = {
    "a": np.arange(20, dtype=np.float32).reshape(4, 5) - 9.5,
    "bias": np.ones(4, np.float32),
    "b": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "steps": np.array([3], np.int64),
}
LAYOUT = Layout.of(ARRAYS)

Sent = list[tuple[str, Update, float]]


def model_of(density: float = 0.5, seed: int = 0) -> SparseModel:
    """A model of which a random part is active."""
    bits = np.random.default_rng(seed).random(LAYOUT.weight_count) < density
    return SparseModel(LAYOUT.flatten(ARRAYS), Mask(LAYOUT, bits))


def updates_for(model: SparseModel, count: int = 5, seed: int = 1) -> Sent:
    """Labels, updates and weights of some clients."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        values = rng.normal(size=model.mask.count).astype(np.float32)
        rest = rng.normal(size=LAYOUT.rest_count).astype(np.float32)
        inactive = np.flatnonzero(~model.mask.bits)
        index = np.sort(rng.choice(inactive, min(3, inactive.size), replace=False))
        gradient = SparseGradient(index, rng.normal(size=index.size).astype(np.float32))
        other = {"steps": np.array([10 + k])}
        found.append((f"c{k}", Update(values, rest, other, gradient), float(10 + k)))
    return found


def sums_of(model: SparseModel, sent: Sent, aggregation: str = "mean") -> Summed:
    """The sums of a query of everything, with replies."""
    query = Query(Action.TRAIN, model, (), wants=frozenset({"squares", "signs"}), gradients=(3, 3))
    summed = Summed(query, AGGREGATIONS[aggregation])
    for label, update, weight in sent:
        add(summed, label, update, weight)
    return summed


def add(summed: Summed, label: str, update: Update, weight: float) -> None:
    """Add a reply as a runner does, which looks at its values first."""
    summed.add(label, update, weight, (peak_of(update.values), peak_of(update.rest)))
