"""FedAvg: one dense model for all clients (McMahan et al., AISTATS 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass

from caafp_app.pruning.schedule import RoundPlan, even_plan
from caafp_app.runner.model import SparseModel
from caafp_app.strategies.method import Method
from caafp_app.strategies.strategy import MethodStrategy


@dataclass(eq=False)
class FedAvg(MethodStrategy):
    """FedAvg with the rounds and the end of the others, so that a table compares methods alone.

    Flower's class is not called. With the same clients in every round, float32 both ways, and
    `robust` off, models and metrics are those of Flower's FedAvg but for the rounding of float32;
    where not all clients are drawn, others are drawn. Works with any ClientApp that has
    `sparse_mod`. Parameters: see `MethodStrategy`.
    """

    def plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        return even_plan(num_rounds)

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        return Method(model)
