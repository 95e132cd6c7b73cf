"""ClusterFL: a model per client, drawn together inside clusters (MobiSys 2021).

The maths, and the paper, are in `clustering.admm`.
"""

from collections.abc import Mapping, Sequence
from logging import WARNING
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.common.logger import log
from numpy.typing import NDArray

from caafp_app.clustering.admm import Coupling, Penalties
from caafp_app.clustering.sketch import DEFAULT_BUDGET, Sketcher, sketch_budget
from caafp_app.clustering.stable import keep_numbers
from caafp_app.errors import SettingsError
from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, to_record
from caafp_app.protocol.objective import CENTRE_WEIGHT, OWN
from caafp_app.pruning.schedule import RoundPlan, even_plan
from caafp_app.runs.checkpoint import State
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.grouping import group
from caafp_app.strategies.phased import PhasedStrategy
from caafp_app.strategies.robust import MEAN
from caafp_app.strategies.roster import Client, Roster
from caafp_app.strategies.rules import Clustering, check_clusters, check_own_app


class ClusterFL(PhasedStrategy):
    """Each client trains a model of its own; the server draws those of a cluster together.

    All models start from the same weights and all clients in one cluster. Every few rounds the
    clients that have trained are clustered by the directions in which their models have moved from
    there; clusters keep their numbers as far as possible, and the others their cluster.

    A sampled client is sent the point that its model is drawn to; its model only while it may not
    hold it. It returns the change. The server keeps all models: memory is linear in the number of
    clients. Scores: the *cluster* model is the client's own w_i, the *personal* one the same after
    fine-tuning by cross-entropy alone, as with every strategy.

    Needs a ClientApp that keeps its model and follows `protocol.objective.CENTRE_WEIGHT` in its
    config; ours does.

    Parameters
    ----------
    *args, **kwargs
        FedAvg's own, and those of `PhasedStrategy`.
    clustering : Clustering
    every : int
        Rounds between clusterings.
    penalties : Penalties
        alpha, beta and rho.
    """

    def __init__(
        self,
        *args: Any,
        clustering: Clustering | None = None,
        every: int = 5,
        penalties: Penalties | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.clustering = clustering or Clustering()
        self.every = every
        self.penalties = penalties or Penalties()
        self._numbers: dict[str, int] = {}
        self._holding: set[str] = set()
        self._trained: set[str] = set()
        self._couplings: dict[int, tuple[list[str], Coupling]] = {}

    def make_plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Make all rounds alike."""
        return even_plan(num_rounds)

    def begin(self, layout: Layout, model: FlatModel) -> None:
        """Keep the weights that every client starts from."""
        self._initial = ClusterModel(model, Mask.full(layout))
        self.models = {}

    def check(self, roster: Roster) -> None:
        """Refuse more clusters than clients, an app that keeps no model, a robust mean."""
        if self.aggregation != MEAN:
            raise SettingsError(
                f"aggregation: expected mean, found {self.aggregation}: in clusterfl every client "
                "has a model of its own, and there is nothing to take a mean of"
            )
        check_clusters(self.clustering, roster)
        check_own_app(self, CENTRE_WEIGHT)

    def facts(self) -> dict[str, object]:
        """Say how many clusters there will be, and how they are drawn together."""
        rule = self.penalties
        return {
            "clusters": f"{self.clustering}, every {self.every} rounds",
            "ADMM": f"alpha {rule.alpha:g}, beta {rule.beta:g}, rho {rule.rho:g}",
        }

    def prepare(self) -> None:
        """Give each client the initial weights, and all of them one cluster."""
        self._enter(list(self.roster.clients.values()))

    def welcome(self, newcomers: Sequence[Client], step: RoundPlan) -> None:
        """Let late clients start as the others did."""
        self._enter([client for client in newcomers if client.label not in self._numbers])

    def before_round(self, step: RoundPlan) -> None:
        """Cluster when it is due; then let Omega and U follow the models."""
        if step.round > 1 and (step.round - 1) % self.every == 0:
            self._cluster_models()
        for client in self.roster.clients.values():
            if client.label not in self._holding:
                client.held = ""  # so that what `supplies` has goes with the next request
        couplings = {}
        for number, members in self.roster.clusters().items():
            labels = [client.label for client in members]
            models = [_flat(self.model_of(client)) for client in members]
            known, coupling = self._couplings.get(number, ([], None))
            if coupling is None or labels != known:
                coupling = Coupling(self.penalties, models)
            else:
                coupling.step(models)
            couplings[number] = (labels, coupling)
        self._couplings = couplings

    def after_round(self, step: RoundPlan) -> bool:
        """Note who holds its model as the server has it: who answered, of those that were asked.

        Unless too few did: then the server's models stayed, and not those of the clients.
        """
        tally = self.session.tally
        taken = set(tally.contents) if self.session.enough() else set()
        self._holding = self._holding - set(tally.asked) | taken
        self._trained |= taken
        return False

    def model_of(self, client: Client) -> ClusterModel:
        """Return the client's own model."""
        return self.models[self._numbers[client.label]]

    def sent_to(self, client: Client) -> ClusterModel:
        """Return the point that the client's model is drawn to."""
        model = self.model_of(client)
        _, coupling = self._couplings[client.cluster]
        return _wrap(coupling.centre(_flat(model)), model)

    def instructions(self, client: Client, action: Action) -> Mapping[str, float]:
        """Say how strongly it is drawn there."""
        if action is not Action.TRAIN:
            return {}
        return {CENTRE_WEIGHT: self._couplings[client.cluster][1].weight}

    def supplies(self, client: Client, action: Action) -> Mapping[str, ArrayRecord]:
        """Return the client's model, for a client that may not hold it."""
        if action is not Action.TRAIN:
            return {}
        model = self.model_of(client)
        return {OWN: to_record(model.layout.unflatten(model.model, copy=False))}

    def own_state(self) -> State:
        """Return whose model is which, who has trained, and Omega and U of each cluster."""
        couplings = {str(number): labels for number, (labels, _) in sorted(self._couplings.items())}
        state = State(
            {
                "numbers": dict(self._numbers),
                "trained": sorted(self._trained),
                "couplings": couplings,
            }
        )
        for number, (_, coupling) in self._couplings.items():
            state.arrays |= {f"{number}/{k}": array for k, array in coupling.state().items()}
        return state

    def restore_own(self, state: State) -> None:
        """Take them up; nobody is thought to hold its model, so each is sent it once."""
        self._numbers = {label: int(number) for label, number in state.fact("numbers").items()}
        self._trained = set(state.fact("trained"))
        self._holding = set()
        self._couplings = {
            int(number): (
                [str(label) for label in labels],
                Coupling.from_state(
                    self.penalties,
                    len(labels),
                    {name: state.array(f"{number}/{name}") for name in Coupling.KEPT},
                ),
            )
            for number, labels in state.fact("couplings").items()
        }

    def model_layout(self, layout: Layout) -> Layout:
        """Return the layout of the clients' models."""
        return self._initial.layout

    def published(self) -> Mapping[int, ClusterModel]:
        """Return the mean of the models of each cluster."""
        return {
            number: _wrap(
                np.mean([_flat(self.model_of(client)) for client in members], axis=0),
                self.model_of(members[0]),
            )
            for number, members in self.roster.clusters().items()
        }

    def _enter(self, clients: Sequence[Client]) -> None:
        # By label: the roster is in the order in which nodes answered.
        for client in sorted(clients, key=lambda client: client.label):
            number = self._numbers[client.label] = len(self.models)
            self.models[number] = ClusterModel(self._initial.model, self._initial.mask)
            client.cluster = min(self._couplings, default=0)

    def _cluster_models(self) -> None:
        """Cluster those that have trained by how far, and where to, their models have moved."""
        labels, rule = sorted(self._trained), self.clustering
        if len(labels) < max(2, rule.clusters):
            log(WARNING, "%d clients have trained: too few to cluster", len(labels))
            return
        clients = self.roster.clients
        start = _flat(self._initial)
        budget = min(DEFAULT_BUDGET, sketch_budget(len(labels)))
        sketcher = Sketcher(start.size, seed=self.seed, budget=budget)
        sketches = {k: sketcher.sketch(_flat(self.model_of(clients[k])) - start) for k in labels}
        found = group(sketches, rule, seed=self.seed, observer=self.observer)
        before = {label: client.cluster for label, client in clients.items()}
        numbers = dict(zip(labels, map(int, found.labels), strict=True))
        for label, number in keep_numbers(before, numbers).items():
            clients[label].cluster = number
        now = {label: clients[label].cluster for label in sorted(clients)}
        if now != dict(sorted(before.items())):
            self.observer.on_clusters(now, found.note)


def _flat(model: ClusterModel) -> NDArray[Any]:
    """Join weights and rest to the one vector that ClusterFL works on."""
    return np.concatenate([model.model.weights, model.model.rest])


def _wrap(vector: NDArray[np.floating], like: ClusterModel) -> ClusterModel:
    """Make a model of such a vector; the inverse of `_flat`."""
    layout = like.layout
    parts = np.split(vector.astype(layout.dtype), [layout.weight_count])
    return ClusterModel(FlatModel(parts[0], parts[1], like.model.other), like.mask)
