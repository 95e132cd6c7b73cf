"""FedAvgM: FedAvg whose server has momentum (Hsu, Qi, Brown, arXiv:1909.06335, 2019).

With the mean update d of a round and the velocity v, zero at first:

    v = momentum * v + d;    w = w + v
"""

import numpy as np

from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.runs.checkpoint import State
from caafp_app.strategies import FedAvg


class FedAvgM(FedAvg):
    """One dense model that goes on moving where it went before; another rate is a subclass.

    Clients train as with FedAvg. For networks without batch norm: its variances must not overshoot.
    """

    momentum = 0.5

    def begin(self, layout: Layout, model: FlatModel) -> None:
        """Start at rest."""
        super().begin(layout, model)
        self.velocity = [np.zeros_like(model.weights), np.zeros_like(model.rest)]

    def end_round(self, *, move: bool) -> None:
        """Move by the velocity in place of the mean update; not where too few have replied."""
        cluster = self.models[-1]  # the one for all
        move = move and cluster.replies > 0
        before = cluster.model.copy()
        super().end_round(move=move)
        if not move:
            return
        pairs = (before.weights, cluster.model.weights), (before.rest, cluster.model.rest)
        for velocity, (old, new) in zip(self.velocity, pairs, strict=True):
            velocity *= self.momentum
            velocity += new - old
            new[:] = old + velocity

    def facts(self) -> dict[str, object]:
        """Say the momentum in the plan."""
        return {**super().facts(), "server momentum": f"{self.momentum:g}"}

    def own_state(self) -> State:
        """Save the velocity, so that a run can be resumed."""
        return State({}, {"weights": self.velocity[0], "rest": self.velocity[1]})

    def restore_own(self, state: State) -> None:
        """Take it up."""
        for name, velocity in zip(("weights", "rest"), self.velocity, strict=True):
            velocity[:] = state.array(name, velocity.shape)
