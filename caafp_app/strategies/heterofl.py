"""HeteroFL: weaker devices train narrower networks, which share their first filters.

Diao, Ding, Tarokh, ICLR 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caafp_app.pruning.levels import parse_levels
from caafp_app.pruning.schedule import RoundPlan, even_plan
from caafp_app.runner.model import SparseModel
from caafp_app.strategies.caafp import CAAFP
from caafp_app.strategies.caafp_method import CAAFPMethod
from caafp_app.strategies.grouping import Clustering
from caafp_app.strategies.masks import Pruning
from caafp_app.strategies.method import Method
from caafp_app.strategies.strategy import MethodStrategy


@dataclass(eq=False, kw_only=True)
class HeteroFL(MethodStrategy):
    """FedAvg of one network, of which a device of level s trains the first share s of the filters.

    A weight is the mean over the devices that have it. The paper's scaler, static batch
    normalisation and masked cross-entropy are left out. Needs a ClientApp that builds its network
    by the shapes of the received arrays, as ours does.

    Parameters
    ----------
    levels : str
        See `parse_levels`, which may raise SettingsError. The others: see `MethodStrategy`.
    """

    levels: str = "1,0.5,0.25"
    deadline: float = 0.0

    score = "magnitude"

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_levels(self.levels)

    @property
    def cuts_filters(self) -> bool:
        return True

    def plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        return even_plan(num_rounds)

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        """Train parts of one dense model; a filter counts by its place."""
        made = self._method(model)
        layout = model.layout
        places = [
            np.repeat(-np.arange(e.shape[0]), e.size // e.shape[0]) for e in layout.weight_entries
        ]
        made.nested.choose(-1, model, np.concatenate(places))
        return made

    def _method(self, model: SparseModel) -> CAAFPMethod:
        """Return a method of one cluster that is never pruned."""
        args = CAAFP(
            seed=self.seed,
            clustering=Clustering(clusters=1),
            deadline=self.deadline,
            pruning=Pruning(
                sparsity=0.0, granularity="filter", score=self.score, levels=self.levels
            ),
        )
        return CAAFPMethod(args, model)
