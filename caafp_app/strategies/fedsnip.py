"""FedSNIP: one mask for the whole run, cut before the first round by what all clients say.

Bustincio et al., Annals of Telecommunications 80 (2025); SNIP: Lee et al., ICLR 2019.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import RunError
from caafp_app.protocol.messages import Action
from caafp_app.pruning.schedule import Phase, RoundPlan, even_plan
from caafp_app.runner.model import SparseModel
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client
from caafp_app.runner.runner import Runner
from caafp_app.strategies.masks import Pruning
from caafp_app.strategies.method import Method
from caafp_app.strategies.strategy import MethodStrategy


@dataclass(eq=False, kw_only=True)
class FedSNIP(MethodStrategy):
    """Sparse FedAvg inside a mask that never changes.

    Every client sends ``|g w|`` of one batch at the initial weights; the sum over clients, each
    counted alike, is cut once over the whole model. Works with any ClientApp that has
    `sparse_mod`; of an app that reports no gradient the drift of one training stands in.

    Parameters
    ----------
    sparsity : float
        Share of the prunable weights that is gone, in [0, 1). The others: see `MethodStrategy`.
    """

    sparsity: float = 0.7

    def plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        return even_plan(num_rounds, sparsity=self.sparsity)

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        """Ask all clients before round 1, and cut."""
        return _FedSNIP(self, model)


class _FedSNIP(Method):
    def __init__(self, args: FedSNIP, model: SparseModel) -> None:
        super().__init__(model)
        self.sparsity = args.sparsity

    def facts(self) -> dict[str, object]:
        return {"pruning": f"to sparsity {self.sparsity:g} before round 1, by SNIP"}

    def before(self, runner: Runner, step: RoundPlan, newcomers: Sequence[Client]) -> None:
        """Ask all clients, and cut; no layer is emptied."""
        if step.round == 1:
            dense = self.models[-1]
            saliency = ask_saliency(runner, runner.roster.reachable(), dense, uniform=True)
            once = Pruning(initial_sparsity=self.sparsity, allocation="global")
            self.models = {-1: once.cut(dense, saliency)}


def ask_saliency(
    runner: Runner, clients: Sequence[Client], model: SparseModel, *, uniform: bool = False
) -> NDArray[np.float64]:
    """Return the clients' mean connection sensitivity of each active weight [mask.count].

    A client's is ``|g w|`` of one batch at the given weights, divided by its mean (Lee, Ajanthan,
    Torr, "SNIP", ICLR 2019, eq. 5 but for the constant factor); `uniform` weighs clients equally.
    Raises RunError if nobody answers.
    """
    query = Query(Action.SALIENCY, model, tuple(clients), uniform=uniform)
    mean = runner.hold([query], Phase.SALIENCY, 0).summed[0].mean()
    if mean is None:
        raise RunError("no client answered with saliencies: there is no mask to begin with")
    return mean.values
