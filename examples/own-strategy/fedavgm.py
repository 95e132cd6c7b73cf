"""FedAvgM: FedAvg whose server has momentum (Hsu, Qi, Brown, arXiv:1909.06335, 2019).

With the mean update d of a round and the velocity v, zero at first:

    v = momentum * v + d;    w = w + v
"""

from collections.abc import Sequence
from dataclasses import dataclass

from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runner.model import MeanUpdate, SparseModel
from caafp_app.runner.runner import Answers
from caafp_app.runs.checkpoint import State
from caafp_app.strategies import FedAvg, Method


@dataclass(eq=False, kw_only=True)
class FedAvgM(FedAvg):
    """One dense model that goes on moving where it went before.

    Clients train as with FedAvg. For networks without batch norm: its variances must not overshoot.
    """

    momentum: float = 0.5

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        """Start at rest."""
        return _FedAvgM(model, self.momentum)


class _FedAvgM(Method):
    def __init__(self, model: SparseModel, momentum: float) -> None:
        super().__init__(model)
        self.momentum = momentum
        self.velocity = MeanUpdate.nothing(model)

    def facts(self) -> dict[str, object]:
        """Say the momentum in the plan."""
        return {"server momentum": f"{self.momentum:g}"}

    def apply(self, step: RoundPlan, answers: Answers) -> bool:
        """Move by the velocity in place of the mean update; not where too few have replied."""
        for summed in answers.summed:  # the one query to all
            if answers.enough and (mean := summed.mean()) is not None:
                self.velocity = mean.plus(self.velocity, self.momentum)
                self.models[-1] = self.models[-1].moved(self.velocity)
        return False

    def state(self) -> State:
        """Save the velocity too, so that a run can be resumed."""
        velocity = {"values": self.velocity.values, "rest": self.velocity.rest}
        return super().state() | {"velocity": velocity}

    def restore(self, state: State) -> None:
        """Take it up."""
        super().restore(state)
        kept = state["velocity"]
        self.velocity = self.velocity.with_values(kept["values"], kept["rest"])
