"""Groups from the updates that the warm-up's rounds bring anyway: nobody trains once more for them.

Each client's own part of its updates is found by `clustering.effects`. Who has not been in a round
by then trains once from the warm-up's last weights when it is first drawn, to be placed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from logging import INFO
from typing import Any

import numpy as np
from flwr.common.logger import log
from numpy.typing import NDArray

from caafp_app.clustering.assign import assign
from caafp_app.clustering.effects import Effects, unit
from caafp_app.clustering.sketch import sketch_budget
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.messages import Action
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runner.model import SparseModel
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client, Roster
from caafp_app.runner.runner import Answers, Runner
from caafp_app.runs.checkpoint import State
from caafp_app.strategies.changing import Changes
from caafp_app.strategies.grouping import Clustering
from caafp_app.strategies.groups import IN_CLUSTERS, Groups, sketch_by, sketcher_of


class RoundGroups(Groups):
    """Groups that are formed by the updates of the warm-up, and may change later; see `Groups`.

    Without a round of warm-up there is nothing to go by, and all train once, as for `Groups`.
    """

    def __init__(
        self, rule: Clustering, seed: int, narrow: Callable[[Query], Query] = lambda query: query
    ) -> None:
        super().__init__(rule, seed, narrow)
        self._effects = Effects(0)
        self._common: NDArray[Any] | None = None  # of the round that newcomers train in
        self._largest = 0  # where a client is until it is placed
        changes = Changes(seed, rule.linkage, rule.min_cluster_size)
        self._changes = changes if rule.changing else None
        self._roster = Roster()

    def form_or_place(
        self,
        runner: Runner,
        step: RoundPlan,
        newcomers: Sequence[Client],
        models: Mapping[int, SparseModel],
    ) -> dict[int, SparseModel]:
        """Form the groups when the warm-up is over; let newcomers wait until they are drawn."""
        self._roster = runner.roster
        if self._centroids is not None:
            for client in newcomers:
                client.cluster = self._largest
            if len(self._centroids) > 1:
                self._unplaced |= {client.label for client in newcomers}
            if self._changes is None:
                return dict(models)
            found = self._changes.decide(runner, models)
            members = runner.roster.clusters()
            self._largest = max(found, key=lambda number: len(members.get(number, [])))
            return found
        if step.phase in IN_CLUSTERS:
            if self.rule.fixed != 1 and len(self._effects):
                return self._form_by_rounds(runner, models)
            return super().form_or_place(runner, step, newcomers, models)
        if self._sketcher is None:
            budget = sketch_budget(2 * len(runner.roster.clients))
            self._sketcher = sketcher_of(models[-1], self.seed, budget)
            self._effects = Effects(self._sketcher.length)
        return dict(models)

    def ask(
        self, queries: Sequence[Query], action: Action, models: Mapping[int, SparseModel]
    ) -> list[Query]:
        """Have updates looked at in the warm-up; later have those unplaced train once."""
        if action is not Action.TRAIN or self._sketcher is None:
            return list(queries)
        each = sketch_by(self._sketcher)
        if self._centroids is None:
            return [replace(query, each=each) for query in queries]
        if self._changes is not None:
            queries = self._changes.watch(queries, models, len(self._roster.clients))
        late = tuple(c for query in queries for c in query.clients if c.label in self._unplaced)
        if not late or self._base is None:
            return list(queries)
        rest = [
            replace(query, clients=tuple(c for c in query.clients if c not in late))
            for query in queries
        ]
        placing = Query(Action.TRAIN, self._base, late, each=each, adds=False)
        return [query for query in rest if query.clients] + [placing]

    def learn(self, answers: Answers) -> Answers:
        """Take in what a round's updates say of the groups; return the answers that are left."""
        if self._centroids is None:
            updates = {label: row for one in answers.summed for label, row in one.kept.items()}
            if updates:
                self._effects.add(updates)
                self._base = answers.summed[0].query.model
            return answers
        if self._changes is not None:
            self._changes.learn(answers, self._roster.clusters())
        left = tuple(one for one in answers.summed if one.query.adds)
        for one in answers.summed:
            for client in () if one.query.adds else one.query.clients:
                if client.label in one.kept:
                    common = 0 if self._common is None else self._common
                    row = unit(one.kept[client.label]) - common
                    found = int(assign(row[None], self._centroids)[0])
                    client.cluster = self._changes.now(found) if self._changes else found
                    self._unplaced.discard(client.label)
                    log(INFO, "placed: %s -> %d", client.label, client.cluster)
        return replace(answers, summed=left)

    def _form_by_rounds(
        self, runner: Runner, models: Mapping[int, SparseModel]
    ) -> dict[int, SparseModel]:
        labels, parts, self._common = self._effects.fit()
        rows = dict(zip(labels, parts, strict=True))
        found = self.rule.group(rows, seed=self.seed, observer=runner.observer)
        self._centroids, self._effects = found.centroids, Effects(0)
        self._largest = int(np.bincount(found.labels).argmax())
        numbers = dict(zip(labels, map(int, found.labels), strict=True))
        for label, client in runner.roster.clients.items():
            client.cluster = numbers.get(label, self._largest)
        if found.k > 1:
            self._unplaced = runner.roster.clients.keys() - numbers.keys()
        runner.observer.on_clusters(numbers, found.note)
        return dict.fromkeys(range(found.k), models[-1])

    @property
    def changed(self) -> set[int]:
        return self._changes.changed if self._changes is not None else set()

    def state(self) -> State:
        return {
            "base": None if self._base is None else self._base.to_state(),
            "budget": 0 if self._sketcher is None else self._sketcher.budget,
            "centroids": self._centroids,
            "unplaced": sorted(self._unplaced),
            "effects": vars(self._effects),
            "common": self._common,
            "largest": self._largest,
            "changes": None if self._changes is None else self._changes.state(),
        }

    def restore(self, layout: Layout, state: State) -> None:
        self._unplaced, self._largest = set(state["unplaced"]), int(state["largest"])
        self._effects = Effects(**state["effects"])
        self._centroids, self._common = state["centroids"], state["common"]
        if state["base"] is not None:
            self._base = SparseModel.from_state(layout, state["base"])
            self._sketcher = sketcher_of(self._base, self.seed, int(state["budget"]))
        if self._changes is not None:
            self._changes.restore(state["changes"])
