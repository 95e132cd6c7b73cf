"""FedAvg: one dense model for all clients (McMahan et al., AISTATS 2017)."""

from collections.abc import Sequence

from caafp_app.pruning.schedule import RoundPlan, even_plan
from caafp_app.strategies.phased import PhasedStrategy


class FedAvg(PhasedStrategy):
    """``flwr.serverapp.strategy.FedAvg`` with the ledger and the personalise phase of the others.

    Works with any ClientApp that has `sparse_mod`.

    Parameters
    ----------
    *args, **kwargs
        FedAvg's own, and those of `PhasedStrategy`.
    """

    def make_plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Make all rounds alike."""
        return even_plan(num_rounds)
