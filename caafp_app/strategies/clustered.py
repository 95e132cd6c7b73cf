"""A method whose clients are grouped after a warm-up, and then have a model per group."""

from collections.abc import Mapping, Sequence

from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runner.model import SparseModel
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client, Roster
from caafp_app.runner.runner import Answers, Runner
from caafp_app.runs.checkpoint import State
from caafp_app.strategies.grouping import Clustering
from caafp_app.strategies.groups import Groups
from caafp_app.strategies.levels import Nested
from caafp_app.strategies.method import Method
from caafp_app.strategies.round_groups import RoundGroups


class ClusteredMethod(Method):
    """FedAvg of one model in the warm-up, then inside each group.

    `nested` has the parts that devices of different strength are given; without it all are alike.
    """

    def __init__(
        self, model: SparseModel, clustering: Clustering, seed: int, nested: Nested | None = None
    ) -> None:
        super().__init__(model)
        self.nested = nested or Nested(model)
        self.groups = (RoundGroups if clustering.by_rounds else Groups)(
            clustering, seed, self.nested.compare
        )

    def facts(self) -> dict[str, object]:
        return {"clusters": str(self.groups.rule)}

    def check(self, roster: Roster) -> None:
        self.groups.rule.check(roster)

    def before(self, runner: Runner, step: RoundPlan, newcomers: Sequence[Client]) -> None:
        """Form the groups when the warm-up is over; place late clients."""
        if not self.groups.formed:
            self.nested.settle(runner.roster.clients.values())
        self.models = self.groups.form_or_place(runner, step, newcomers, self.models)

    def parts(self) -> Mapping[int, Mapping[str, Mask]]:
        return {number: self.nested.parts(number, model) for number, model in self.models.items()}

    def ask(self, action: Action, step: RoundPlan, clients: Sequence[Client]) -> list[Query]:
        """Ask what the groups need to know besides."""
        return self.groups.ask(super().ask(action, step, clients), action, self.models)

    def apply(self, step: RoundPlan, answers: Answers) -> bool:
        """Take in what the updates say of the groups; move the models."""
        return super().apply(step, self.groups.learn(answers))

    def state(self) -> State:
        return super().state() | {"nested": self.nested.state(), "groups": self.groups.state()}

    def restore(self, state: State) -> None:
        super().restore(state)
        self.nested.restore(self.layout, state["nested"])
        self.groups.restore(self.layout, state["groups"])
