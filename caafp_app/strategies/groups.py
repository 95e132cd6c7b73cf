"""The groups of one run: formed by one exchange with all clients, and joined by late ones."""

from collections.abc import Callable, Mapping, Sequence
from logging import INFO, WARNING
from typing import Any

import numpy as np
from flwr.common.logger import log
from numpy.typing import NDArray

from caafp_app.clustering.assign import assign
from caafp_app.clustering.sketch import Sketcher, sketch_budget
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.messages import Action
from caafp_app.pruning.schedule import Phase, RoundPlan
from caafp_app.runner.health import available
from caafp_app.runner.model import SparseModel
from caafp_app.runner.query import Query, Update
from caafp_app.runner.roster import Client
from caafp_app.runner.runner import Answers, Runner
from caafp_app.runs.checkpoint import State
from caafp_app.strategies.grouping import Clustering
from caafp_app.strategies.method import by_cluster

IN_CLUSTERS = (Phase.CLUSTER_WARM_UP, Phase.PRUNE)


def sketcher_of(model: SparseModel, seed: int, budget: int) -> Sketcher:
    """Make what shortens the updates of a model, all of them alike."""
    return Sketcher(max(model.mask.count + model.layout.rest_count, 1), seed=seed, budget=budget)


def sketch_by(sketcher: Sketcher) -> Callable[[Update], NDArray[Any]]:
    """Return what sketches an update, for `Query.each`."""

    def sketch(update: Update) -> NDArray[Any]:
        moved = np.concatenate([update.values, update.rest])
        # Of a model without one floating number: they are all alike.
        return sketcher.sketch(moved if moved.size else np.zeros(1))

    return sketch


class Groups:
    """Groups that are formed once, by one exchange with all clients; late clients join later.

    `narrow` makes a query for the whole model one that every client can answer.
    """

    def __init__(
        self, rule: Clustering, seed: int, narrow: Callable[[Query], Query] = lambda query: query
    ) -> None:
        self.rule = rule
        self.seed = seed
        self._narrow = narrow
        self._centroids: NDArray[Any] | None = None
        self._base: SparseModel | None = None  # what all were compared by training
        self._sketcher: Sketcher | None = None
        self._unplaced: set[str] = set()

    @property
    def formed(self) -> bool:
        """Whether clients have been compared: what they trained then is what late ones train."""
        return self._base is not None

    @property
    def changed(self) -> set[int]:
        """Clusters that have other members or another model since the round before."""
        return set()

    def form_or_place(
        self,
        runner: Runner,
        step: RoundPlan,
        newcomers: Sequence[Client],
        models: Mapping[int, SparseModel],
    ) -> dict[int, SparseModel]:
        """Form the groups when the warm-up is over; place who came later, or missed it.

        Returns the models by group; `models` as they are unless groups were formed.
        """
        if self.rule.fixed == 1 and step.phase in IN_CLUSTERS:  # nothing to ask anybody for
            for client in runner.roster.clients.values():
                client.cluster = 0
            if 0 in models:
                return dict(models)
            everybody = dict.fromkeys(sorted(runner.roster.clients), 0)
            runner.observer.on_clusters(everybody, "one cluster, as asked")
            return {0: models[-1]}
        if self._base is not None:
            self._place(runner, step, newcomers)
        elif step.phase in IN_CLUSTERS:
            models = self._form(runner, step, models)
        missed = [
            client
            for client in available(runner.roster.reachable(), step.round)
            if client.label in self._unplaced and not client.failures
        ]
        self._place(runner, step, missed)
        return dict(models)

    def ask(
        self, queries: Sequence[Query], action: Action, models: Mapping[int, SparseModel]
    ) -> list[Query]:
        """Return a round's queries with what the groups want to know besides: nothing here."""
        return list(queries)

    def learn(self, answers: Answers) -> Answers:
        """Take in what a round's updates say of the groups; return the answers for the models."""
        return answers

    def _form(
        self, runner: Runner, step: RoundPlan, models: Mapping[int, SparseModel]
    ) -> Mapping[int, SparseModel]:
        base, roster = models[-1], runner.roster
        asked = available(roster.reachable(), step.round)
        sketcher = self._sketcher_for(base, sketch_budget(len(asked)))
        sketches, enough = self._compare(runner, step, asked, base, sketcher, needed=True)
        if not enough or len(sketches) < max(1, min(self.rule.fixed, len(asked))):
            log(WARNING, "%d updates to cluster by: tried again next round", len(sketches))
            return models
        found = self.rule.group(sketches, seed=self.seed, observer=runner.observer)
        self._base, self._sketcher, self._centroids = base, sketcher, found.centroids
        for client in roster.clients.values():
            client.cluster = 0  # of a client without an update
        self._unplaced = roster.clients.keys() - sketches.keys()
        numbers = dict(zip(sorted(sketches), map(int, found.labels), strict=True))
        for label, number in numbers.items():
            roster.clients[label].cluster = number
        runner.observer.on_clusters(numbers, found.note)
        return dict.fromkeys(range(found.k), base)

    def _place(self, runner: Runner, step: RoundPlan, late: Sequence[Client]) -> None:
        """Let late clients train once from the weights that all were compared by."""
        base, sketcher, centroids = self._base, self._sketcher, self._centroids
        if not late or base is None or sketcher is None or centroids is None:
            return
        sketches, _ = self._compare(runner, step, late, base, sketcher, needed=False)
        for client in late:
            if client.label in sketches:
                client.cluster = int(assign(sketches[client.label][None], centroids)[0])
                self._unplaced.discard(client.label)
            else:
                client.cluster = 0
                self._unplaced.add(client.label)
                log(WARNING, "%s: no update to place it by, put in cluster 0", client.label)
        log(INFO, "joined late: %s", ", ".join(f"{c.label} -> {c.cluster}" for c in late))

    def _compare(
        self,
        runner: Runner,
        step: RoundPlan,
        clients: Sequence[Client],
        base: SparseModel,
        sketcher: Sketcher,
        *,
        needed: bool,
    ) -> tuple[dict[str, NDArray[Any]], bool]:
        """Train once on each client from the same weights; sketch the updates, by label."""
        queries = [
            self._narrow(
                Query(Action.TRAIN, base, members, number, each=sketch_by(sketcher), adds=False)
            )
            for number, members in by_cluster(clients).items()
        ]
        answers = runner.hold(queries, Phase.CLUSTER, step.round, needed=needed)
        found = {label: row for one in answers.summed for label, row in one.kept.items()}
        return found, answers.enough

    def _sketcher_for(self, base: SparseModel, budget: int) -> Sketcher:
        given = self._narrow(Query(Action.TRAIN, base, ())).model
        return sketcher_of(given, self.seed, budget)

    def state(self) -> State:
        """Return what late clients are placed by: the centroids, and the model trained from."""
        if self._base is None or self._sketcher is None:
            return {}
        return {
            "base": self._base.to_state(),
            "budget": self._sketcher.budget,
            "centroids": self._centroids,
            "unplaced": sorted(self._unplaced),
        }

    def restore(self, layout: Layout, state: State) -> None:
        """Take up what `state` returned; the sketches of newcomers are then those of before."""
        if state:
            self._base = SparseModel.from_state(layout, state["base"])
            self._sketcher = self._sketcher_for(self._base, int(state["budget"]))
            self._centroids, self._unplaced = state["centroids"], set(state["unplaced"])
