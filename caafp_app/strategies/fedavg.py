"""FedAvg: one dense model for all clients (McMahan et al., AISTATS 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass

from caafp_app.pruning.schedule import RoundPlan, even_plan
from caafp_app.runner.model import SparseModel
from caafp_app.strategies.method import Method
from caafp_app.strategies.strategy import MethodStrategy


@dataclass(eq=False)
class FedAvg(MethodStrategy):
    """``flwr.serverapp.strategy.FedAvg`` done over, with the rounds and the end of the others.

    Flower's class is not called: the mean of the clients' updates, weighted by their examples, is
    taken by what all strategies here share, so that a table compares methods alone. With the same
    clients in every round, float32 both ways, and no client beyond `max_update_norm` or
    `max_weight`, models and metrics are those of Flower's FedAvg but for the rounding of float32.
    Where not all clients are drawn, others are drawn than Flower would draw.

    Works with any ClientApp that has `sparse_mod`. Parameters: see `MethodStrategy`.
    """

    def plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Make all rounds alike."""
        return even_plan(num_rounds)

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        """Ask for training, and move by the mean."""
        return Method(model)
