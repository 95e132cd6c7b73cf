"""Clients are grouped once, by the directions of their updates from the same weights.

Sattler, Mueller, Samek, IEEE TNNLS 32(8), 2021; FedCHAR, IMWUT 7(1):20, 2023.
"""

from collections.abc import Sequence
from logging import INFO, WARNING
from typing import Any

import numpy as np
from flwr.common.logger import log
from numpy.typing import NDArray

from caafp_app.clustering.assign import assign
from caafp_app.clustering.sketch import DEFAULT_BUDGET, Sketcher, sketch_budget
from caafp_app.errors import RunError
from caafp_app.protocol.messages import Action, Answer
from caafp_app.pruning.schedule import Phase, RoundPlan
from caafp_app.runs.checkpoint import State
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.grouping import group
from caafp_app.strategies.phased import PhasedStrategy
from caafp_app.strategies.replies import Expected, read_update
from caafp_app.strategies.roster import Client, Roster
from caafp_app.strategies.rules import Clustering, check_clusters


class ClusteredStrategy(PhasedStrategy):
    """A warm-up of one model, an exchange with all clients that groups them, a model per group.

    Parameters
    ----------
    *args, **kwargs
        FedAvg's own, and those of `PhasedStrategy`.
    clustering : Clustering
        Number of clusters, linkage, least size.
    """

    def __init__(self, *args: Any, clustering: Clustering | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clustering = clustering or Clustering()
        self.centroids: NDArray[Any] | None = None
        self._base: ClusterModel | None = None
        self._sketcher: Sketcher | None = None
        self._unplaced: set[str] = set()

    def check(self, roster: Roster) -> None:
        """Refuse more clusters than clients."""
        check_clusters(self.clustering, roster)

    def facts(self) -> dict[str, object]:
        """Say how many clusters there will be."""
        return {"clusters": str(self.clustering)}

    def before_round(self, step: RoundPlan) -> None:
        """Cluster the clients once the warm-up is over."""
        if self.centroids is None and step.phase is not Phase.WARM_UP:
            self._cluster_clients(step)
        # Whoever missed the clustering is placed once it answers again, or has come back.
        missed = [c for c in self.available(step.round) if c.label in self._unplaced]
        if ready := [client for client in missed if not client.failures]:
            self.welcome(ready, step)

    def welcome(self, newcomers: Sequence[Client], step: RoundPlan) -> None:
        """Let late clients train once from the clustering phase's weights; join the nearest."""
        if self.centroids is None:
            return
        sketches = self._sketches(newcomers, step.round, needed=False)
        for client in newcomers:
            if client.label in sketches:
                client.cluster = int(assign(sketches[client.label][None], self.centroids)[0])
                self._unplaced.discard(client.label)
            else:
                client.cluster = min(self.models)
                self._unplaced.add(client.label)
                log(WARNING, "%s: no update to place it by, put in cluster 0", client.label)
        log(INFO, "joined late: %s", ", ".join(f"{c.label} -> {c.cluster}" for c in newcomers))

    def own_state(self) -> State:
        """Return what late clients are placed by: the centroids, and the model trained from."""
        state = State()
        if self.centroids is not None and self._base is not None and self._sketcher is not None:
            state.arrays["centroids"] = self.centroids
            state.facts["budget"] = self._sketcher.budget
            state.facts["unplaced"] = sorted(self._unplaced)
            state.put("base", self._base.state())
        return state

    def restore_own(self, state: State) -> None:
        """Take up centroids and base; the sketches of newcomers are then those of before."""
        if "base" in state.facts:
            self._base = ClusterModel.from_state(self.models[-1].layout, state.part("base"))
            self._sketcher = self._make_sketcher(self._base, int(state.fact("budget")))
            self.centroids = state.array("centroids")
            self._unplaced = set(state.fact("unplaced"))

    def _make_sketcher(self, base: ClusterModel, budget: int) -> Sketcher:
        size = max(base.mask.count + base.layout.rest_count, 1)
        return Sketcher(size, seed=self.seed, budget=budget)

    def _cluster_clients(self, step: RoundPlan) -> None:
        base = self._base = self.models[-1]
        self._sketcher = None
        asked, rule = self.available(step.round), self.clustering
        sketches = self._sketches(asked, step.round)
        if not self.session.enough() or len(sketches) < max(1, min(rule.clusters, len(asked))):
            log(WARNING, "%d updates to cluster by: tried again next round", len(sketches))
            return
        labels = sorted(sketches)
        found = group(sketches, rule, seed=self.seed, observer=self.observer)
        self.centroids = found.centroids
        self.models = {number: ClusterModel(base.model, base.mask) for number in range(found.k)}
        for client in self.roster.clients.values():
            client.cluster = 0  # of who sent no update
        self._unplaced = self.roster.clients.keys() - sketches.keys()
        for label, number in zip(labels, found.labels, strict=True):
            self.roster.clients[label].cluster = int(number)
        self.observer.on_clusters(
            {label: self.roster.clients[label].cluster for label in labels}, found.note
        )

    def _sketches(
        self, clients: Sequence[Client], round_: int, *, needed: bool = True
    ) -> dict[str, NDArray[Any]]:
        """Train once on each client from the same weights and sketch the updates, by label."""
        base = self._base
        if base is None:
            raise RunError("clients are compared after the warm-up only")
        if self._sketcher is None:  # kept: late clients are compared with these
            budget = min(DEFAULT_BUDGET, sketch_budget(len(clients)))
            self._sketcher = self._make_sketcher(base, budget)
        sketcher = self._sketcher
        sketches: dict[str, NDArray[Any]] = {}

        def accept(client: Client, answer: Answer, expected: Expected, weight: float) -> None:
            update = read_update(answer, expected)
            moved = np.concatenate([update.values, update.rest])
            # Of a model without one floating number: they are all alike.
            sketches[client.label] = sketcher.sketch(moved if moved.size else np.zeros(1))

        self.session.ask(
            clients,
            lambda _: base,
            Action.TRAIN,
            Phase.CLUSTER,
            round_,
            self.train_config,
            accept,
            needed=needed,
        )
        return sketches
