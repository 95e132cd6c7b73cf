"""CA-HFP: weaker devices train the filters without which the loss would rise most.

Hu, Teng, Wu, Ma: arXiv 2603.12591 (2026).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from caafp_app.errors import SettingsError
from caafp_app.pruning.schedule import RoundPlan, even_plan
from caafp_app.runner.model import SparseModel
from caafp_app.strategies.heterofl import HeteroFL
from caafp_app.strategies.method import Method


@dataclass(eq=False, kw_only=True)
class CAHFP(HeteroFL):
    """FedAvg of one network, of which a device trains the filters of largest curvature score.

    A filter counts by the sum of ``|g w| + F w^2 / 2`` over its weights (`scores.curvature`). The
    paper lets each device choose by its own gradients. Here all devices of a level have the same
    filters, chosen by the updates of all.

    Parameters
    ----------
    every : int
        Rounds between choices, at least 1, or SettingsError. The others: see `HeteroFL`.
    """

    every: int = 5

    score = "curvature"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every < 1:
            raise SettingsError(f"every: expected at least 1 round, found {self.every}")

    def plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Choose anew every few rounds, as long as a round is left to train what was chosen."""
        return tuple(
            replace(
                step,
                statistics=True,
                mask_update=step.round % self.every == 0 and step.round < num_rounds,
            )
            for step in even_plan(num_rounds)
        )

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        """Begin with the filters of largest initial weights."""
        return self._method(model)
