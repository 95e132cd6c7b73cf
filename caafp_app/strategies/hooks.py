"""What a strategy decides, and what is done where it does not; how a run goes is in `phased`."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from flwr.app import ArrayRecord

from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runs.checkpoint import State
from caafp_app.strategies.base import BaseStrategy
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.health import available
from caafp_app.strategies.roster import Client, Roster, generator, sample


class StrategyHooks(BaseStrategy):
    """The methods that a strategy is made of; `make_plan` is the only one that it must have."""

    @abstractmethod
    def make_plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Return the rounds, numbered from 1.

        Raises
        ------
        SettingsError
            If they do not add up to `num_rounds`.
        """

    def begin(self, layout: Layout, model: FlatModel) -> None:
        """Make the first models; by default one dense model for all (cluster -1)."""
        self.models = {-1: ClusterModel(model, Mask.full(layout))}

    def check(self, roster: Roster) -> None:
        """Refuse a run that these clients cannot make, before any of them works.

        Raises
        ------
        SettingsError
        """

    def prepare(self) -> None:
        """Do what comes before the first round, with exchanges of its own if need be."""

    def before_round(self, step: RoundPlan) -> None:
        """Do what comes between two rounds, with exchanges of its own if need be."""

    def after_round(self, step: RoundPlan) -> bool:
        """Change the models after a round; return whether the masks changed."""
        return False

    def gradient_counts(self, model: ClusterModel, step: RoundPlan) -> tuple[int, ...]:
        """How many gradients at inactive weights this round asks for, by layer."""
        return ()

    def welcome(self, newcomers: Sequence[Client], step: RoundPlan) -> None:
        """Place clients that appeared after the start."""

    def model_of(self, client: Client) -> ClusterModel:
        """Return the client's model: its replies are added to it, and it is personalised.

        By default that of its cluster.
        """
        return self.models[client.cluster]

    def sent_to(self, client: Client) -> ClusterModel:
        """Return what a client is sent to train; by default its model."""
        return self.model_of(client)

    def end_round(self, *, move: bool) -> None:
        """Move the models by what their clients have sent, if that is enough to `move`."""
        for model in self.models.values():
            model.end_round(move=move)

    def instructions(self, client: Client, action: Action) -> Mapping[str, float]:
        """Say what the ClientApp is told besides the user's config: see `protocol.objective`."""
        return {}

    def supplies(self, client: Client, action: Action) -> Mapping[str, ArrayRecord]:
        """Return the records that go to a client of which nothing is known to be held there."""
        return {}

    def published(self) -> Mapping[int, ClusterModel]:
        """Return the models by cluster as the caller gets them, in the layout of the start."""
        return self.models

    def own_state(self) -> State:
        """Return what this strategy has to save besides models, clients and bytes."""
        return State()

    def restore_own(self, state: State) -> None:
        """Take up what `own_state` returned, before the models are restored.

        Raises
        ------
        RunError
            If it is not of this strategy.
        """

    def model_layout(self, layout: Layout) -> Layout:
        """Return the layout of the models that are restored; by default that of the start."""
        return layout

    def available(self, round_: int) -> list[Client]:
        """Return the clients that can be reached and do not rest, sorted by label."""
        return available(self.roster.reachable(), round_)

    def sampled(self, round_: int) -> list[Client]:
        """Draw the clients of a round."""
        clients = self.available(round_)
        count = self.clients_per_round or max(
            int(len(clients) * self.fraction_train), self.min_train_nodes
        )
        return sample(clients, count, generator(self.seed, round_, "sample"), self.cluster_floor)

    def facts(self) -> dict[str, object]:
        """Say what the plan should tell of the strategy's own settings."""
        return {}

    def plan_facts(self, layout: Layout) -> dict[str, object]:
        """Say what a reader of the plan should know of the run."""
        return {
            "strategy": type(self).__name__,
            "clients": f"{len(self.roster.clients)}, {self.sampled_share()} a round",
            "model": f"{layout.parameter_count} parameters, {layout.weight_count} prunable",
            **self.facts(),
            "wire": f"down {self.wire.down}, up {self.wire.up}, rest {self.wire.rest}",
            "seed": self.seed,
        }
