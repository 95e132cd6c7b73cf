"""CA-AFP: cluster the clients, keep one sparse model per cluster, let its mask evolve.

Jha, Shukla, Lone: arXiv 2603.01739 (2026).
"""

from collections.abc import Sequence
from logging import INFO, WARNING
from typing import Any

import numpy as np
from flwr.common.logger import log
from numpy.typing import NDArray

from caafp_app.clustering.agglomerative import cluster
from caafp_app.clustering.assign import assign
from caafp_app.clustering.sketch import DEFAULT_BUDGET, Sketcher, sketch_budget
from caafp_app.errors import RunError, SettingsError
from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Answer
from caafp_app.pruning.allocation import layer_counts
from caafp_app.pruning.schedule import Phase, RoundPlan, build_plan
from caafp_app.pruning.segments import active_counts, sizes_of
from caafp_app.pruning.select import growth_counts, magnitude_mask
from caafp_app.pruning.statistics import RoundSums
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.phased import PhasedStrategy
from caafp_app.strategies.replies import Expected, read_saliency, read_update
from caafp_app.strategies.roster import Client, Roster, generator
from caafp_app.strategies.rules import Clustering, Pruning, divide_rounds


class CAAFP(PhasedStrategy):
    """Clustered, sparse, personalised federated learning, in place of ``FedAvg(...)``.

    Parameters
    ----------
    *args, **kwargs
        FedAvg's own, and those of `PhasedStrategy`.
    warmup_rounds, cluster_rounds, prune_rounds : int, optional
        Rounds of each phase; together `num_rounds`. Left out: 30 %, 30 % and 40 % of it.
    clustering : Clustering
    pruning : Pruning

    Examples
    --------
    >>> strategy = CAAFP(fraction_train=0.5, seed=42)
    >>> result = strategy.start(grid, initial_arrays, num_rounds=50)  # doctest: +SKIP
    """

    def __init__(
        self,
        *args: Any,
        warmup_rounds: int | None = None,
        cluster_rounds: int | None = None,
        prune_rounds: int | None = None,
        clustering: Clustering | None = None,
        pruning: Pruning | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.phase_rounds = (warmup_rounds, cluster_rounds, prune_rounds)
        self.clustering = clustering or Clustering()
        self.pruning = pruning or Pruning()
        self.centroids: NDArray[Any] | None = None
        self._base: ClusterModel | None = None
        self._sketcher: Sketcher | None = None

    def make_plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Divide the rounds among warm-up, cluster warm-up and pruning."""
        warmup, within, prune = divide_rounds(num_rounds, *self.phase_rounds)
        pruning = self.pruning
        return build_plan(
            warmup,
            within,
            prune,
            every=pruning.every,
            initial=pruning.initial_sparsity,
            final=pruning.sparsity,
            kind=pruning.schedule,
        )

    def begin(self, layout: Layout, model: FlatModel) -> None:
        """Start from one model; sparse already if there is an initial sparsity."""
        first = ClusterModel(model, Mask.full(layout))
        kind = self.pruning.initial_mask
        if self.pruning.initial_sparsity > 0 and kind != "snip":
            # The largest initial weights by default: a unit that keeps few inputs then keeps the
            # scale of its output.
            saliency = np.abs(model.weights).astype(np.float64)
            if kind == "random":
                saliency = generator(self.seed, 0, "mask").random(layout.weight_count)
            first = self._cut(first, saliency)
        self.models = {-1: first}

    def prepare(self) -> None:
        """Let a round's clients say which initial weights matter (SNIP, Lee et al., 2019)."""
        if self.pruning.initial_sparsity <= 0 or self.pruning.initial_mask != "snip":
            return
        dense = self.models[-1]
        saliency = RoundSums(dense.mask.count)

        def accept(client: Client, answer: Answer, expected: Expected, weight: float) -> None:
            saliency.add(read_saliency(answer, expected), weight)

        action, phase = Action.SALIENCY, Phase.SALIENCY
        self.session.ask(
            self.sampled(0), self.model_of, action, phase, 0, self.train_config, accept
        )
        if not saliency.replies:
            raise RunError("no client answered with saliencies: there is no mask to begin with")
        self.models = {-1: self._cut(dense, saliency.mean())}

    def _cut(self, model: ClusterModel, saliency: NDArray[np.float64]) -> ClusterModel:
        """Keep the most salient weights at the initial sparsity."""
        counts = self._counts(model, 1 - self.pruning.initial_sparsity, saliency)
        bits = magnitude_mask(saliency, counts, model.layout.segments)
        return ClusterModel(model.model, Mask(model.layout, bits))

    def check(self, roster: Roster) -> None:
        """Refuse more clusters than clients."""
        if self.clustering.clusters > len(roster.clients):
            raise SettingsError(
                f"clusters: expected at most the {len(roster.clients)} clients that take part, "
                f"found {self.clustering.clusters}"
            )

    def facts(self) -> dict[str, object]:
        """Say how many clusters there will be, and how sparse they end."""
        rule, pruning = self.clustering, self.pruning
        number = str(rule.clusters) if rule.clusters else "2 to 6 by silhouette"
        return {
            "clusters": f"{number}, {rule.linkage} linkage",
            "pruning": f"to sparsity {pruning.sparsity:g}, {pruning.schedule}, "
            f"{pruning.allocation} over layers, {pruning.regrow:.0%} regrown",
        }

    def before_round(self, step: RoundPlan) -> None:
        """Cluster the clients once the warm-up is over."""
        if self.centroids is None and step.phase is not Phase.WARM_UP:
            self._cluster_clients(step)

    def after_round(self, step: RoundPlan) -> bool:
        """Update each cluster's mask when the plan says so."""
        if not step.mask_update:
            return False
        for model in self.models.values():
            scores = model.scores(self.pruning.score)
            counts = self._counts(model, 1 - step.sparsity, scores)
            model.evolve(scores, counts, self.pruning.regrow)
        return True

    def gradient_counts(self, model: ClusterModel, step: RoundPlan) -> tuple[int, ...]:
        """Ask for as many gradients of each layer as will be regrown."""
        if not step.gradients or model.mask.is_full:
            return ()
        segments = model.layout.segments
        active = active_counts(model.mask.bits, segments)
        # How a global cut will fall, only the scores of this round say: near what it is now.
        by_rule = self.pruning.allocation != "global"
        counts = self._counts(model, 1 - step.sparsity) if by_rule else active
        grown = growth_counts(active, counts, self.pruning.regrow, sizes_of(segments))
        return tuple(int(count) for count in grown)

    def welcome(self, newcomers: Sequence[Client], step: RoundPlan) -> None:
        """Let late clients train once from the clustering phase's weights; join the nearest."""
        if self.centroids is None:
            return
        sketches = self._sketches(newcomers, step.round, needed=False)
        for client in newcomers:
            if client.label in sketches:
                client.cluster = int(assign(sketches[client.label][None], self.centroids)[0])
            else:
                client.cluster = min(self.models)
                log(WARNING, "%s: no update to place it by, put in cluster 0", client.label)
        log(INFO, "joined late: %s", ", ".join(f"{c.label} -> {c.cluster}" for c in newcomers))

    def _cluster_clients(self, step: RoundPlan) -> None:
        base = self._base = self.models[-1]
        self._sketcher = None
        asked, rule = self.roster.reachable(), self.clustering
        sketches = self._sketches(asked, step.round)
        if len(sketches) < max(1, min(rule.clusters, len(asked))):
            log(WARNING, "%d updates to cluster by: tried again next round", len(sketches))
            return
        labels = sorted(sketches)
        found = cluster(
            np.stack([sketches[label] for label in labels]),
            rule.clusters,
            linkage=rule.linkage,
            min_size=rule.min_size,
            seed=self.seed,
        )
        self.centroids = found.centroids
        self.models = {number: ClusterModel(base.model, base.mask) for number in range(found.k)}
        for client in self.roster.clients.values():
            client.cluster = 0  # of who sent no update
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
            size = base.mask.count + base.layout.rest_count
            budget = min(DEFAULT_BUDGET, sketch_budget(len(clients)))
            self._sketcher = Sketcher(size, seed=self.seed, budget=budget)
        sketcher = self._sketcher
        sketches: dict[str, NDArray[Any]] = {}

        def accept(client: Client, answer: Answer, expected: Expected, weight: float) -> None:
            update = read_update(answer, expected)
            sketches[client.label] = sketcher.sketch(np.concatenate([update.values, update.rest]))

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

    def _counts(
        self, model: ClusterModel, density: float, scores: NDArray[np.float64] | None = None
    ) -> NDArray[np.int64]:
        """Active weights of each layer at a density, by the allocation rule."""
        entries = model.layout.weight_entries
        return layer_counts(
            [entry.size for entry in entries],
            density,
            self.pruning.allocation,
            shapes=[entry.shape for entry in entries],
            scores=None if scores is None else [scores[part] for part in model.active_segments()],
        )
