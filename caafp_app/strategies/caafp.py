"""CA-AFP: cluster the clients, keep one sparse model per cluster, let its mask evolve.

Jha, Shukla, Lone: arXiv 2603.01739 (2026).
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

from caafp_app.errors import SettingsError
from caafp_app.pruning.levels import parse_levels
from caafp_app.pruning.schedule import RoundPlan, build_plan
from caafp_app.pruning.tuning import at_most
from caafp_app.runner.model import SparseModel
from caafp_app.strategies.caafp_method import CAAFPMethod
from caafp_app.strategies.grouping import AUTO, Clustering
from caafp_app.strategies.masks import Pruning
from caafp_app.strategies.method import Method
from caafp_app.strategies.rounds import (
    SHORT,
    check_room,
    check_updates,
    default_sparsity,
    divide_rounds,
    early_rounds,
)
from caafp_app.strategies.sparsity import sparsity_of
from caafp_app.strategies.strategy import MethodStrategy

USUAL_CLUSTERING, USUAL_PRUNING = Clustering(), Pruning()
"""What an argument is if it is left out."""


@dataclass(eq=False, kw_only=True)
class CAAFP(MethodStrategy):
    """Clustered, sparse, personalised federated learning, in place of ``FedAvg(...)``.

    Parameters
    ----------
    warmup_rounds, cluster_rounds, prune_rounds : int, optional
        Rounds of each phase; together `num_rounds`. All left out: see `early_rounds`. Some: the
        others share what is left as 30 : 30 : 40.
    clustering : Clustering
        Number of clusters, linkage, least size. Left out, and no rounds given either: in a run of
        fewer than 10 rounds one cluster, else one unless a test finds groups.
    pruning : Pruning
        How much is pruned, when, and which weights. Left out, and no rounds given either: less the
        fewer rounds there are, see `default_sparsity`.
    sharing : float
        How much of all clusters' mean update each follows, in [0, 1]; 0: its own alone.
    deadline : float
        Seconds that a round may take a device, which is given a smaller part where it takes longer
        (`Pruning.levels`); 0: none. The other parameters: see `MethodStrategy`.

    Raises
    ------
    SettingsError
        If `sharing` is outside of [0, 1], or parts exclude each other, such as levels with
        ``clusters="auto"`` or ``score="auto"``.

    Examples
    --------
    >>> strategy = CAAFP(fraction_train=0.5, seed=42)
    >>> result = strategy.start(grid, initial_arrays, num_rounds=50)  # doctest: +SKIP
    """

    warmup_rounds: int | None = None
    cluster_rounds: int | None = None
    prune_rounds: int | None = None
    clustering: Clustering = USUAL_CLUSTERING
    pruning: Pruning = USUAL_PRUNING
    sharing: float = 0.0
    deadline: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.sharing <= 1.0:
            raise SettingsError(f"sharing: expected a number from 0 to 1, found {self.sharing}")
        if self.clustering.by_rounds and len(parse_levels(self.pruning.levels)) > 1:
            raise SettingsError(
                "clusters: 'auto' compares updates of whole models; expected a number with levels, "
                f"found levels {self.pruning.levels!r}"
            )
        if len(self.pruning.rivals) > 1 and len(parse_levels(self.pruning.levels)) > 1:
            raise SettingsError(
                "score: 'auto' lets clients try the whole model; expected a sum of scores with "
                f"levels, found levels {self.pruning.levels!r}"
            )
        if self.pruning.sparsity == "entropy" and not self.one_exchange:
            raise SettingsError(
                "sparsity: 'entropy' goes by what the ClientApp of caafp_app says of its labels "
                "(one_exchange=True); expected a number or 'auto' for another app"
            )

    @property
    def cuts_filters(self) -> bool:
        return self.pruning.by_filters

    def plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Divide the rounds among warm-up, cluster warm-up and pruning."""
        _, pruning = self._fitted(num_rounds)
        if not self._divided:
            parts, every = early_rounds(num_rounds, pruning.every)
            check_updates(parts, pruning)
            return _build(parts, replace(pruning, every=every))
        parts = divide_rounds(
            num_rounds, self.warmup_rounds, self.cluster_rounds, self.prune_rounds
        )
        if self.prune_rounds is None and pruning.final > 0:
            check_room(num_rounds, parts)
        return _build(parts, pruning)

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        """Group the clients; prune and regrow each group's model."""
        fitted = copy(self)
        fitted.clustering, fitted.pruning = self._fitted(len(plan))
        return CAAFPMethod(fitted, model, sparsity_of(fitted.pruning, plan, own=self.one_exchange))

    def ends_personal(self, num_rounds: int) -> bool:
        """Not in a short run, unless it is asked for."""
        return super().ends_personal(num_rounds) and not (
            self.personalise is None and self._short(num_rounds)
        )

    @property
    def _divided(self) -> bool:
        """Whether somebody has said how many rounds a phase has."""
        return (self.warmup_rounds, self.cluster_rounds, self.prune_rounds) != (None, None, None)

    def _short(self, num_rounds: int) -> bool:
        return not self._divided and num_rounds < SHORT

    def _fitted(self, num_rounds: int) -> tuple[Clustering, Pruning]:
        """Return what was asked for, or what suits so many rounds if nothing was."""
        clustering, pruning = self.clustering, self.pruning
        if self._divided:
            return clustering, pruning
        if clustering is USUAL_CLUSTERING:
            # Groups that are none would each learn from fewer clients.
            clusters: int | str = 1 if self._short(num_rounds) else AUTO
            clustering = replace(clustering, clusters=clusters, grouping="exchange")
        if pruning is USUAL_PRUNING:
            pruning = replace(pruning, sparsity=default_sparsity(num_rounds, pruning.final))
        return clustering, pruning


def _build(parts: tuple[int, int, int], pruning: Pruning) -> Sequence[RoundPlan]:
    plan = build_plan(
        *parts,
        every=pruning.every,
        initial=pruning.initial_sparsity,
        final=pruning.final,
        kind=pruning.schedule,
    )
    return at_most(plan, 1 - pruning.initial_sparsity) if pruning.sparsity == "auto" else plan
