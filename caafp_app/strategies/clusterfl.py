"""ClusterFL: a model per client, drawn together inside clusters (MobiSys 2021).

The maths, and the paper, are in `clustering.admm`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from logging import WARNING
from typing import Any, ClassVar

import numpy as np
from flwr.app import ArrayRecord
from flwr.common.logger import log
from numpy.typing import NDArray

from caafp_app.clustering.admm import Coupling, Penalties
from caafp_app.clustering.assign import keep_numbers
from caafp_app.clustering.sketch import Sketcher, sketch_budget
from caafp_app.errors import SettingsError
from caafp_app.protocol.layout import FlatModel
from caafp_app.protocol.messages import Action, to_record
from caafp_app.protocol.objective import CENTRE_WEIGHT, OWN
from caafp_app.pruning.schedule import RoundPlan, even_plan
from caafp_app.runner.model import SparseModel, mean_model
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client, Roster
from caafp_app.runner.runner import Answers, Runner
from caafp_app.runs.checkpoint import State
from caafp_app.strategies.grouping import Clustering
from caafp_app.strategies.method import Method
from caafp_app.strategies.strategy import MethodStrategy


@dataclass(eq=False, kw_only=True)
class ClusterFL(MethodStrategy):
    """Each client trains a model of its own; the server draws those of a cluster together.

    All models start from the same weights and all clients in one cluster. Every few rounds the
    clients that have trained are clustered by the directions in which their models have moved;
    clusters keep their numbers as far as possible, and the other clients their cluster.

    A sampled client is sent the point that its model is drawn to, and its model only while it may
    not hold it. It returns the change. The server keeps all models: memory is linear in the
    clients. Scores: the *cluster* model is the client's own w_i, the *personal* one the same after
    fine-tuning by cross-entropy alone. Needs a ClientApp that keeps its model and follows
    `protocol.objective.CENTRE_WEIGHT` in its config; ours does.

    Parameters
    ----------
    every : int
        Rounds between clusterings.
    penalties : Penalties
        alpha, beta and rho. The other parameters: see `MethodStrategy`.
    """

    clustering: Clustering = field(default_factory=Clustering)
    every: int = 5
    penalties: Penalties = field(default_factory=Penalties)

    needs_own_app: ClassVar[str] = CENTRE_WEIGHT

    def __post_init__(self) -> None:
        """Refuse a robust mean."""
        super().__post_init__()
        if self.aggregation != "mean":
            raise SettingsError(
                f"aggregation: expected mean, found {self.aggregation}: in clusterfl every "
                "client has a model of its own, and there is nothing to take a mean of"
            )

    def plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        return even_plan(num_rounds)

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        """Give each client the initial weights, and ask each for training of its own model."""
        return _ClusterFL(self, model)


class _ClusterFL(Method):
    """`models` has the client's own models, by a number of each client."""

    def __init__(self, args: ClusterFL, model: SparseModel) -> None:
        super().__init__(model)
        self.args = args
        self.models = {}
        self._initial = model
        self._numbers: dict[str, int] = {}
        self._roster = Roster()
        self._holding: set[str] = set()
        self._trained: set[str] = set()
        self._couplings: dict[int, tuple[list[str], Coupling]] = {}

    def facts(self) -> dict[str, object]:
        rule = self.args.penalties
        return {
            "clusters": f"{self.args.clustering}, every {self.args.every} rounds",
            "ADMM": f"alpha {rule.alpha:g}, beta {rule.beta:g}, rho {rule.rho:g}",
        }

    def check(self, roster: Roster) -> None:
        """Refuse more clusters than clients."""
        self.args.clustering.check(roster)
        self._roster = roster

    def before(self, runner: Runner, step: RoundPlan, newcomers: Sequence[Client]) -> None:
        """Let late clients start as the others did; cluster; draw the models together."""
        roster = runner.roster
        self._enter(roster.clients.values() if step.round == 1 else newcomers)
        if step.round > 1 and (step.round - 1) % self.args.every == 0:
            self._cluster(runner)
        for client in roster.clients.values():
            if client.label not in self._holding:
                client.held = ""  # so that its model goes with the next request
        couplings = {}
        for number, members in roster.clusters().items():
            labels = [client.label for client in members]
            models = [_flat(self._model_of(client)) for client in members]
            known, coupling = self._couplings.get(number, ([], None))
            if coupling is None or labels != known:
                coupling = Coupling(self.args.penalties, models)
            else:
                coupling.step(models)
            couplings[number] = (labels, coupling)
        self._couplings = couplings

    def ask(self, action: Action, step: RoundPlan, clients: Sequence[Client]) -> list[Query]:
        """Send the point that the client's model is drawn to; to be scored, the model itself."""
        queries = []
        for client in clients:
            model, number = self._model_of(client), client.cluster
            if action is Action.TRAIN:
                _, coupling = self._couplings[number]
                centre = _wrap(coupling.centre(_flat(model)), model)
                pull = {CENTRE_WEIGHT: coupling.weight}
                own: dict[str, ArrayRecord] = {OWN: to_record(model.arrays(copy=False))}
                queries.append(Query(action, centre, (client,), number, pull, records=own))
            else:
                queries.append(Query(action, model, (client,), number))
        return queries

    def apply(self, step: RoundPlan, answers: Answers) -> bool:
        """Move each client's own model by its own update.

        A client holds its model as the server has it if it answered; unless too few did: then the
        server's models stay, and not those of the clients.
        """
        taken: set[str] = set()
        for summed in answers.summed:
            (client,) = summed.query.clients
            if answers.enough and (mean := summed.mean()) is not None:
                number = self._numbers[client.label]
                self.models[number] = self.models[number].moved(mean)
                taken.add(client.label)
        self._holding = self._holding - set(answers.tally.asked) | taken
        self._trained |= taken
        return False

    def published(self) -> Mapping[int, SparseModel]:
        """Return the mean of the models of each cluster."""
        return {
            number: mean_model((self._model_of(client), 1.0) for client in members)
            for number, members in self._roster.clusters().items()
        }

    def state(self) -> State:
        """Return the models, whose is which, who has trained, and Omega and U of each cluster."""
        couplings = {
            number: [labels, coupling.state()]
            for number, (labels, coupling) in sorted(self._couplings.items())
        }
        own = {"numbers": self._numbers, "trained": sorted(self._trained), "couplings": couplings}
        return super().state() | own

    def restore(self, state: State) -> None:
        """Take them up; nobody is thought to hold its model, so each is sent it once."""
        super().restore(state)
        self._numbers = {label: int(number) for label, number in state["numbers"].items()}
        self._trained, self._holding = set(state["trained"]), set()
        self._couplings = {
            int(number): (
                list(labels),
                Coupling.from_state(self.args.penalties, len(labels), coupling),
            )
            for number, (labels, coupling) in state["couplings"].items()
        }

    def _model_of(self, client: Client) -> SparseModel:
        return self.models[self._numbers[client.label]]

    def _enter(self, clients: Iterable[Client]) -> None:
        # By label: the roster is in the order in which nodes answered.
        for client in sorted(clients, key=lambda client: client.label):
            if client.label not in self._numbers:
                number = self._numbers[client.label] = len(self.models)
                self.models[number] = self._initial
                client.cluster = min(self._couplings, default=0)

    def _cluster(self, runner: Runner) -> None:
        """Cluster those that have trained by how far, and where to, their models have moved."""
        args, labels = self.args, sorted(self._trained)
        if len(labels) < max(2, args.clustering.fixed):
            log(WARNING, "%d clients have trained: too few to cluster", len(labels))
            return
        clients = runner.roster.clients
        start = _flat(self._initial)
        sketcher = Sketcher(start.size, args.seed, sketch_budget(len(labels)))
        sketches = {k: sketcher.sketch(_flat(self._model_of(clients[k])) - start) for k in labels}
        found = args.clustering.group(sketches, seed=args.seed, observer=runner.observer)
        before = {label: client.cluster for label, client in clients.items()}
        numbers = dict(zip(labels, map(int, found.labels), strict=True))
        for label, number in keep_numbers(before, numbers).items():
            clients[label].cluster = number
        now = {label: clients[label].cluster for label in sorted(clients)}
        if now != dict(sorted(before.items())):
            runner.observer.on_clusters(now, found.note)


def _flat(model: SparseModel) -> NDArray[Any]:
    """Join weights and rest to the one vector that ClusterFL works on."""
    return np.concatenate([model.flat.weights, model.flat.rest])


def _wrap(vector: NDArray[np.floating], like: SparseModel) -> SparseModel:
    """Make a model of such a vector; the inverse of `_flat`."""
    layout = like.layout
    weights, rest = np.split(vector.astype(layout.dtype), [layout.weight_count])
    return SparseModel(FlatModel(weights, rest, like.flat.other), like.mask)
