"""CA-AFP: cluster the clients, keep one sparse model per cluster, let its mask evolve.

Jha, Shukla, Lone: arXiv 2603.01739 (2026).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import SettingsError
from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.protocol.mask import Mask
from caafp_app.pruning.allocation import layer_counts
from caafp_app.pruning.filters import choose_filters
from caafp_app.pruning.schedule import RoundPlan, build_plan
from caafp_app.pruning.segments import active_counts, sizes_of
from caafp_app.pruning.select import growth_counts, magnitude_mask
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.clustered import ClusteredStrategy
from caafp_app.strategies.evolution import active_segments, evolve, remove_filters, score_weights
from caafp_app.strategies.roster import generator
from caafp_app.strategies.rules import Pruning, check_room, divide_rounds
from caafp_app.strategies.saliency import ask_saliency
from caafp_app.strategies.sharing import end_round_together


class CAAFP(ClusteredStrategy):
    """Clustered, sparse, personalised federated learning, in place of ``FedAvg(...)``.

    Parameters
    ----------
    *args, **kwargs
        FedAvg's own, and those of `ClusteredStrategy`.
    warmup_rounds, cluster_rounds, prune_rounds : int, optional
        Rounds of each phase; together `num_rounds`. Left out: 30 %, 30 % and 40 % of it, which has
        to be 3 or more if there is anything to prune.
    pruning : Pruning
    sharing : float
        How much of all clusters' mean update each follows, in [0, 1]; 0: its own alone.

    Raises
    ------
    SettingsError
        If `sharing` is outside of that.

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
        pruning: Pruning | None = None,
        sharing: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.phase_rounds = (warmup_rounds, cluster_rounds, prune_rounds)
        self.pruning = pruning or Pruning()
        if not 0.0 <= sharing <= 1.0:
            raise SettingsError(f"sharing: expected a number from 0 to 1, found {sharing}")
        self.sharing = sharing

    def make_plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Divide the rounds among warm-up, cluster warm-up and pruning."""
        parts, pruning = divide_rounds(num_rounds, *self.phase_rounds), self.pruning
        if self.phase_rounds[2] is None and pruning.sparsity > 0:
            check_room(num_rounds, parts)
        return build_plan(
            *parts,
            every=pruning.every,
            initial=pruning.initial_sparsity,
            final=pruning.sparsity,
            kind=pruning.schedule,
        )

    def begin(self, layout: Layout, model: FlatModel) -> None:
        """Start from one model; sparse already if there is an initial sparsity."""
        first = ClusterModel(model, Mask.full(layout))
        if self.pruning.granularity == "filter":  # refuses now what has no filters to cut
            choose_filters(layout.unflatten(model), 1.0, [e.name for e in layout.weight_entries])
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
        saliency = ask_saliency(self.session, self.sampled(0), dense, self.train_config)
        self.models = {-1: self._cut(dense, saliency)}

    def _cut(self, model: ClusterModel, saliency: NDArray[np.float64]) -> ClusterModel:
        """Keep the most salient weights at the initial sparsity."""
        if self.pruning.granularity == "filter":
            remove_filters(model, saliency, 1 - self.pruning.initial_sparsity)
            return model
        counts = self._counts(model, 1 - self.pruning.initial_sparsity, saliency)
        bits = magnitude_mask(saliency, counts, model.layout.segments)
        return ClusterModel(model.model, Mask(model.layout, bits))

    def facts(self) -> dict[str, object]:
        """Say how many clusters there will be, and how sparse they end."""
        pruning = self.pruning
        facts = super().facts()
        if self.sharing:
            facts["clusters"] = f"{facts['clusters']}, {self.sharing:.0%} of a move shared"
        if pruning.granularity == "filter":
            how = f"to sparsity {pruning.sparsity:g}, {pruning.schedule}, by whole filters"
            return {**facts, "pruning": how}
        return {
            **facts,
            "pruning": f"to sparsity {pruning.sparsity:g}, {pruning.schedule}, "
            f"{pruning.allocation} over layers, {pruning.regrow:.0%} regrown",
        }

    def end_round(self, *, move: bool) -> None:
        """Move the clusters' models, each in part with all."""
        end_round_together(self.models, self.sharing, move=move)

    def after_round(self, step: RoundPlan) -> bool:
        """Update each cluster's mask when the plan says so."""
        if not step.mask_update:
            return False
        for model in self.models.values():
            scores = score_weights(model, self.pruning.score)
            if self.pruning.granularity == "filter":
                remove_filters(model, scores, 1 - step.sparsity)
                continue
            counts = self._counts(model, 1 - step.sparsity, scores)
            evolve(model, scores, counts, self.pruning.regrow)
        return True

    def gradient_counts(self, model: ClusterModel, step: RoundPlan) -> tuple[int, ...]:
        """Ask for as many gradients of each layer as will be regrown."""
        if not step.gradients or model.mask.is_full or self.pruning.granularity == "filter":
            return ()
        segments = model.layout.segments
        active = active_counts(model.mask.bits, segments)
        # How a global cut will fall, only the scores of this round say: near what it is now.
        by_rule = self.pruning.allocation != "global"
        counts = self._counts(model, 1 - step.sparsity) if by_rule else active
        grown = growth_counts(active, counts, self.pruning.regrow, sizes_of(segments))
        # None at all: then clients need not compute any.
        return tuple(int(count) for count in grown) if np.any(grown) else ()

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
            scores=None if scores is None else [scores[part] for part in active_segments(model)],
        )
