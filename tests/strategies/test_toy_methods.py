"""What later methods need, shown by a toy: a query per level."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runner.model import SparseModel, combine
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client
from caafp_app.runner.runner import Answers
from caafp_app.strategies import FedAvg, Method
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.strategies.support import Recorder, nodes

CLIENTS = 5


def level_of(label: str) -> int:
    """Two clients of five are weak."""
    return int(label.rpartition("-")[2]) % 2


@dataclass(eq=False, kw_only=True)
class Levels(FedAvg):
    """Strong clients train all weights, weak ones every second of them."""

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        return _Levels(model)


class _Levels(Method):
    def ask(self, action: Action, step: RoundPlan, clients: Sequence[Client]) -> list[Query]:
        whole = self.models[-1]
        half = np.arange(whole.mask.bits.size) % 2 == 0
        models = [whole, whole.with_mask(Mask(whole.layout, half))]
        return [
            Query(action, model, tuple(c for c in clients if level_of(c.label) == level))
            for level, model in enumerate(models)
        ]

    def apply(self, step: RoundPlan, answers: Answers) -> bool:
        means = [mean for summed in answers.summed if (mean := summed.mean()) is not None]
        self.models[-1] = self.models[-1].moved(combine(means))
        return False


def flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(array) for array in arrays]).astype(float)


def test_levels_move_each_weight_by_the_mean_of_the_clients_that_have_it() -> None:
    result = Levels(
        observer=Recorder(), spare_below=0, personalise=False, fraction_evaluate=0.0
    ).start(LocalGrid(numpy_app.make_app(), nodes(CLIENTS)), numpy_app.initial(), num_rounds=1)
    initial = numpy_app.initial().to_numpy_ndarrays()
    start, weights = flat(initial), numpy_app.WEIGHTS
    total, having = np.zeros(start.size), np.zeros(start.size)
    for part in range(CLIENTS):
        mask = np.ones(start.size, dtype=bool)
        if part % 2:
            mask[:weights] = np.arange(weights) % 2 == 0
        given = np.split(np.where(mask, start, 0), np.cumsum([a.size for a in initial])[:-1])
        model = [g.reshape(a.shape).astype(np.float32) for g, a in zip(given, initial, strict=True)]
        after, examples = numpy_app.trained(part, model)
        total += examples * np.where(mask, flat(after) - flat(model), 0)
        having += examples * mask
    np.testing.assert_allclose(
        flat(result.arrays.to_numpy_ndarrays()), start + total / having, atol=1e-5
    )
