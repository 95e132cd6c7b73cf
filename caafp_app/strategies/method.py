"""What one run of a strategy knows and decides; the rounds themselves are the same for all."""

from collections.abc import Iterable, Mapping, Sequence

from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runner.model import SparseModel
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client, Roster
from caafp_app.runner.runner import Answers, Runner
from caafp_app.runs.checkpoint import State


class Method:
    """The state of one run, and the five things that a run asks of it. As it stands: FedAvg.

    A strategy makes one for each run (`MethodStrategy.method`), of the model that it starts from.
    In a round the run calls, in this order: `before`, `ask` for training, `hear`, `apply`; and
    `ask` again for what is evaluated and personalised.

    Attributes
    ----------
    models : dict of int to SparseModel
        By cluster; -1 before there are clusters.
    """

    def __init__(self, model: SparseModel) -> None:
        self.models: dict[int, SparseModel] = {-1: model}
        self.layout = model.layout  # of the models

    def facts(self) -> dict[str, object]:
        """Say what the plan should tell of the method's own arguments."""
        return {}

    def check(self, roster: Roster) -> None:
        """Refuse, by SettingsError, a run that these clients cannot make; nobody has worked yet."""

    def before(self, runner: Runner, step: RoundPlan, newcomers: Sequence[Client]) -> None:
        """Do what comes before a round, with exchanges of its own (`Runner.hold`) if need be.

        `newcomers` have appeared since the last round; before the first one, they are everybody.
        """

    def ask(self, action: Action, step: RoundPlan, clients: Sequence[Client]) -> list[Query]:
        """Return the queries that make these clients do `action`, each client in one of them."""
        return [
            Query(action, self.models[number], members, number)
            for number, members in by_cluster(clients).items()
        ]

    def apply(self, step: RoundPlan, answers: Answers) -> bool:
        """Move the models by the answers to the queries of `ask` for training, in their order.

        Where `answers.enough` is false no model should move. Returns whether masks have changed, or
        models are of other clients than before.
        """
        for summed in answers.summed:
            if answers.enough and (mean := summed.mean()) is not None:
                number = summed.query.group
                self.models[number] = self.models[number].moved(mean)
        return False

    def hear(self, answers: Answers) -> dict[int, float]:
        """Take in what clients say of the models that they were sent, in training or evaluation.

        Called before `apply`, and after an evaluation. Returns what of it the method goes by, by
        cluster; nothing here.
        """
        return {}

    def published(self) -> Mapping[int, SparseModel]:
        """Return the models by cluster as the caller gets them, in the layout of the start."""
        return self.models

    def parts(self) -> Mapping[int, Mapping[str, Mask]]:
        """Return the masks of smaller levels of the models, by cluster and share; here none."""
        return {}

    def state(self) -> State:
        """Return what a checkpoint saves of the method; the inverse of `restore`."""
        return {"models": {number: one.to_state() for number, one in sorted(self.models.items())}}

    def restore(self, state: State) -> None:
        """Go on from what `state` returned; what another state raises becomes a RunError."""
        self.models = {
            int(number): SparseModel.from_state(self.layout, one)
            for number, one in state["models"].items()
        }


def by_cluster(clients: Iterable[Client]) -> dict[int, tuple[Client, ...]]:
    """Group clients by their cluster, in the order of clusters and then of labels."""
    groups: dict[int, list[Client]] = {}
    for client in sorted(clients, key=lambda client: (client.cluster, client.label)):
        groups.setdefault(client.cluster, []).append(client)
    return {number: tuple(members) for number, members in groups.items()}
