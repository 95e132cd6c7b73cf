"""How a cluster's mask is made and changed: single weights pruned and regrown, or whole filters."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import SettingsError
from caafp_app.protocol.mask import Mask
from caafp_app.pruning.allocation import layer_counts
from caafp_app.pruning.evidence import Evidence
from caafp_app.pruning.filters import choose_by_weight, choose_filters, filter_mask
from caafp_app.pruning.levels import parse_levels
from caafp_app.pruning.score_text import DEFAULT_SCORE, STALENESS, parse_score, rivals_of
from caafp_app.pruning.scores import Mix, importance, sums_needed
from caafp_app.pruning.segments import active_counts, packed_segments, sizes_of
from caafp_app.pruning.select import growth_counts, update_mask
from caafp_app.pruning.staleness import Ages, with_bonus
from caafp_app.pruning.tuning import SPARSITY_RULES, final_sparsity
from caafp_app.registry import ALLOCATIONS
from caafp_app.runner.model import SparseModel
from caafp_app.strategies.arguments import check_arguments

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Pruning:
    """How much is pruned, when, and which weights.

    Attributes
    ----------
    sparsity : float or {"auto", "entropy"}
        Pruned share of the prunable weights at the end. ``auto``: of each cluster, what its clients
        bear, see `tolerance`; ``entropy``: by the diversity of its clients' labels, which our own
        app tells.
    initial_sparsity : float
        At the start.
    schedule, allocation : str
        Registered names: ``cubic``, ``linear`` or ``one-shot``; ``uniform``, ``erk``, ``global`` or
        ``quota``.
    every : int
        Rounds between mask updates.
    initial_mask : {"magnitude", "random", "snip"}
        What decides the first mask of a model that is sparse from the start.
    regrow : float
        Share of a layer's active weights exchanged in an update.
    granularity : {"weight", "filter"}
        What is pruned. Whole filters (of plain chains of convolutions and dense layers) do not grow
        back, and go evenly over layers; `regrow` and `allocation` are of single weights.
    score : str
        A weighted sum of registered scores: see `parse_score`. ``auto``: the one of several by
        which a cluster's clients lose the least, see `strategies.election`.
    levels : str
        Shares of a model that devices of different strength train: see `parse_levels`.
    tolerance : float
        Of ``sparsity="auto"``: points of accuracy, or hundredths of a loss, that pruning may cost.
    watch : str
        Of ``sparsity="auto"``: the metric of the clients' replies that it goes by. Empty: their
        accuracy, else their loss; of our own app, the accuracy on windows held out of training.

    Raises
    ------
    SettingsError
        If `sparsity` is another word, ``auto`` with filters, or `tolerance` is negative.
    """

    sparsity: float | str = 0.7
    initial_sparsity: float = 0.0
    schedule: str = "cubic"
    every: int = 5
    initial_mask: str = "magnitude"
    allocation: str = "uniform"
    regrow: float = 0.05
    granularity: str = "weight"
    score: str = DEFAULT_SCORE
    levels: str = "1"
    tolerance: float = 0.5
    watch: str = ""

    def __deepcopy__(self, memo: object) -> Self:
        """Return the value itself: a copied strategy still knows what was left out."""
        return self

    def __post_init__(self) -> None:
        check_arguments(self)
        if isinstance(self.sparsity, str) and self.sparsity not in SPARSITY_RULES:
            raise SettingsError(
                f"sparsity: expected a number, {' or '.join(map(repr, SPARSITY_RULES))}, found "
                f"{self.sparsity!r}"
            )
        if self.sparsity == "auto" and self.by_filters:
            raise SettingsError(
                "sparsity: 'auto' lets masks grow again, and whole filters do not; expected a "
                "number with granularity 'filter'"
            )
        if not self.tolerance >= 0:
            raise SettingsError(f"tolerance: expected at least 0, found {self.tolerance}")

    @property
    def final(self) -> float:
        """The sparsity at the end, or the largest that it can be."""
        return final_sparsity(self.sparsity)

    def __str__(self) -> str:
        """Say it as the plan shows it."""
        how = f"to sparsity {self.final:g}, {self.schedule}"
        if self.sparsity == "auto":
            how = f"while at most {self.tolerance:g} points are lost; planned is the most"
        elif self.sparsity == "entropy":
            how = "by the labels' entropy; planned is the most"
        if len(parse_levels(self.levels)) > 1:
            how = f"levels {self.levels}; {how}"
        if self.by_filters:
            return f"{how}, by whole filters"
        return f"{how}, {self.allocation} over layers, {self.regrow:.0%} regrown"

    @property
    def by_filters(self) -> bool:
        """Whether whole filters are pruned."""
        return self.granularity == "filter"

    @property
    def mix(self) -> Mix:
        """The scores by name, and their shares; of ``auto`` those of the first rival."""
        return parse_score(rivals_of(self.score)[0])

    @property
    def rivals(self) -> tuple[Self, ...]:
        """The same with each score that there is to choose from."""
        return tuple(replace(self, score=score) for score in rivals_of(self.score))

    @property
    def bonus(self) -> float:
        """What the oldest pruned weight's growth gains: see `pruning.staleness`."""
        stale = dict(self.mix).get(STALENESS, 0.0)
        return stale / (sum(share for _, share in self.mix) - stale)

    @property
    def sums(self) -> frozenset[str]:
        """The sums that the scores need."""
        return frozenset().union(*(sums_needed(rival.mix) for rival in self.rivals))

    def check(self, model: SparseModel) -> None:
        """Refuse, by SettingsError, a network that has no filters where filters are to be cut."""
        if self.by_filters:
            names = [entry.name for entry in model.layout.weight_entries]
            choose_filters(model.arrays(copy=False), 1.0, names)

    def cut(self, model: SparseModel, saliency: Vector) -> SparseModel:
        """Keep the most salient weights [A] of a dense model, at the initial sparsity."""
        density = 1 - self.initial_sparsity
        if self.by_filters:
            return keep_filters(model, saliency, density)
        counts = self._counts(model, density, saliency)
        bits, nothing = model.mask.bits, np.zeros(model.layout.weight_count)
        bits = update_mask(bits, saliency, nothing, counts, 0.0, model.layout.segments)
        return model.with_mask(Mask(model.layout, bits))

    def gradients_wanted(self, model: SparseModel, sparsity: float) -> tuple[int, ...]:
        """Return how many gradients each layer needs for as many weights as will be regrown."""
        if model.mask.is_full or self.by_filters:
            return ()
        segments = model.layout.segments
        active = active_counts(model.mask.bits, segments)
        # Counts that follow from scores are not known yet: near what they are now.
        known = not ALLOCATIONS[self.allocation].needs_scores
        counts = self._counts(model, 1 - sparsity) if known else active
        grown = growth_counts(active, counts, self.regrow, sizes_of(segments))
        # None at all: then clients need not compute any.
        return tuple(int(count) for count in grown) if np.any(grown) else ()

    def scores(self, model: SparseModel, evidence: Evidence) -> Vector:
        """Score the active weights of a model [A]: see `importance`."""
        segments = packed_segments(model.mask.bits, model.layout.segments)
        return importance(model.mask.select(model.flat.weights), evidence, segments, self.mix)

    def proposed(
        self, model: SparseModel, evidence: Evidence, sparsity: float
    ) -> NDArray[np.bool_]:
        """Return which active weights [A] an update would keep if all others were worth growing."""
        every = np.ones(model.layout.weight_count)
        return model.mask.select(self.evolve(model, evidence, every, sparsity).mask.bits)

    def evolve(
        self,
        model: SparseModel,
        evidence: Evidence,
        gradient: Vector | None,
        sparsity: float,
        ages: Ages | None = None,
    ) -> SparseModel:
        """Return the model inside its next mask: pruned by scores, regrown by gradients.

        The counts of each layer are exact, and grown weights start at zero. `gradient` is the
        clients' mean over all weights [P]; None: nothing speaks for a weight. `ages` says for how
        many updates each weight [P] has been pruned; None: alike for all.
        """
        scores = self.scores(model, evidence)
        if self.by_filters:
            return keep_filters(model, scores, 1 - sparsity)
        counts = self._counts(model, 1 - sparsity, scores)
        if gradient is None:
            gradient = np.zeros(model.layout.weight_count)
        if ages is not None:
            gradient = with_bonus(gradient, ages, self.bonus)
        layers = model.layout.segments
        bits = update_mask(model.mask.bits, scores, gradient, counts, self.regrow, layers)
        return model.with_mask(Mask(model.layout, bits))

    def _counts(
        self, model: SparseModel, density: float, scores: Vector | None = None
    ) -> NDArray[np.int64]:
        """Return the active weights of each layer at a density, by the allocation rule."""
        entries = model.layout.weight_entries
        parts = packed_segments(model.mask.bits, model.layout.segments)
        return layer_counts(
            [entry.size for entry in entries],
            density,
            self.allocation,
            shapes=[entry.shape for entry in entries],
            scores=None if scores is None else [scores[part] for part in parts],
        )


def keep_filters(model: SparseModel, scores: Vector, density: float) -> SparseModel:
    """Keep whole filters alone, until at most `density` of the prunable weights is active.

    A filter counts by the sum of its active weights' scores [A], at least 0. Filters that are gone
    have none, and stay gone. Raises SettingsError if the network is no plain chain of layers.
    """
    by_layer = model.layout.split(model.mask.scatter(scores))
    places = choose_by_weight(model.arrays(copy=False), by_layer, density)
    return model.with_mask(inside(model.mask, filter_mask(by_layer, places)))


def inside(mask: Mask, layers: Mapping[str, NDArray[np.bool_]]) -> Mask:
    """Return a mask without what `layers`, by the names of all prunable arrays, leave out."""
    bits = np.concatenate([layers[entry.name].reshape(-1) for entry in mask.layout.weight_entries])
    return Mask(mask.layout, bits & mask.bits)
