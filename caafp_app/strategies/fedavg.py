"""FedAvg: one dense model for all clients (McMahan et al., AISTATS 2017)."""

from collections.abc import Sequence

from caafp_app.pruning.schedule import RoundPlan, even_plan
from caafp_app.strategies.phased import PhasedStrategy


class FedAvg(PhasedStrategy):
    """``flwr.serverapp.strategy.FedAvg`` done over, with the rounds and the end of the others.

    Flower's class is not called: the mean of the clients' updates, weighted by their examples, is
    taken by what all strategies here share, so that a table compares methods alone. With the same
    clients in every round, float32 both ways, and no client beyond `max_update_norm` or
    `max_weight`, models and metrics are those of Flower's FedAvg but for the rounding of float32.
    The clients that are drawn, where not all are, are others than Flower would draw.

    Works with any ClientApp that has `sparse_mod`.

    Parameters
    ----------
    *args, **kwargs
        FedAvg's own, and those of `PhasedStrategy`.
    """

    def make_plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Make all rounds alike."""
        return even_plan(num_rounds)
