"""From settings to the strategy they name."""

from collections.abc import Callable
from typing import Any

from caafp_app.clustering.admm import Penalties
from caafp_app.runs.checkpoint import Checkpoints
from caafp_app.runs.observer import Observer
from caafp_app.settings import Settings
from caafp_app.strategies.caafp import CAAFP
from caafp_app.strategies.clusterfl import ClusterFL
from caafp_app.strategies.efficientfl import EfficientFL
from caafp_app.strategies.evolution import ScoreRule
from caafp_app.strategies.fedavg import FedAvg
from caafp_app.strategies.fedchar import FedCHAR
from caafp_app.strategies.fedsnip import FedSNIP
from caafp_app.strategies.phased import PhasedStrategy
from caafp_app.strategies.plugged import find_class, make_plugged
from caafp_app.strategies.requests import WireFormat
from caafp_app.strategies.rules import Clustering, Pruning


def check_strategy(settings: Settings) -> None:
    """Look for a class of the user's own, before a run leaves anything.

    Raises
    ------
    SettingsError
        As of `find_class`.
    """
    if settings.run.strategy not in STRATEGIES:
        find_class(settings.run.strategy)


def make_strategy(
    settings: Settings,
    observer: Observer,
    checkpoints: Checkpoints | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> PhasedStrategy:
    """Build the strategy. The rest is as of `BaseStrategy`.

    Raises
    ------
    SettingsError
        It is a class of the user's own that cannot be made: see `make_plugged`.
    """
    rounds, pruning = settings.rounds, settings.pruning
    shared: dict[str, Any] = {
        "min_available_nodes": rounds.min_available_nodes,
        "clients_per_round": rounds.clients_per_round,
        "cluster_floor": rounds.cluster_floor,
        "seed": settings.run.seed,
        "uniform": rounds.weighting == "uniform",
        "spare_first": pruning.spare_first_layer,
        "spare_last": pruning.spare_last_layer,
        "wire": WireFormat(
            settings.wire.down_dtype, settings.wire.up_dtype, settings.wire.rest_dtype
        ),
        "one_exchange": True,
        "evaluate_every": rounds.evaluate_every,
        "average_last": rounds.average_last,
        "split": "validation" if settings.data.validation_fraction > 0 else "test",
        "min_replies": rounds.min_replies,
        "grace": rounds.grace,
        "rest_after": rounds.rest_after,
        "max_update_norm": rounds.max_update_norm,
        "max_weight": rounds.max_weight,
        "aggregation": rounds.aggregation,
        "observer": observer,
        "checkpoints": checkpoints,
        "stop": stop,
    }
    strategy = settings.run.strategy
    if strategy in STRATEGIES:
        return STRATEGIES[strategy](settings, shared)
    return make_plugged(strategy, settings, shared)  # `Settings` has checked its form


def _caafp(settings: Settings, shared: dict[str, Any]) -> PhasedStrategy:
    rounds, pruning = settings.rounds, settings.pruning
    return CAAFP(
        **shared,
        warmup_rounds=rounds.warmup_rounds,
        cluster_rounds=rounds.cluster_rounds,
        prune_rounds=rounds.prune_rounds,
        clustering=_clustering(settings, settings.clustering.linkage),
        sharing=settings.clustering.cluster_sharing,
        pruning=Pruning(
            sparsity=pruning.sparsity,
            initial_sparsity=pruning.initial_sparsity,
            schedule=pruning.schedule,
            every=pruning.prune_every,
            initial_mask=pruning.initial_mask,
            allocation=pruning.allocation,
            regrow=pruning.regrow,
            granularity=pruning.granularity,
            score=ScoreRule(
                pruning.score_magnitude,
                pruning.score_coherence,
                pruning.score_consistency,
                pruning.coherence,
            ),
        ),
    )


def _fedavg(settings: Settings, shared: dict[str, Any]) -> PhasedStrategy:
    return FedAvg(**shared)


def _fedsnip(settings: Settings, shared: dict[str, Any]) -> PhasedStrategy:
    return FedSNIP(**shared, sparsity=settings.pruning.sparsity)


def _efficientfl(settings: Settings, shared: dict[str, Any]) -> PhasedStrategy:
    return EfficientFL(**shared, sparsity=settings.pruning.sparsity)


def _fedchar(settings: Settings, shared: dict[str, Any]) -> PhasedStrategy:
    return FedCHAR(
        **shared,
        warmup_rounds=settings.rounds.warmup_rounds,
        dual_weight=settings.train.dual_weight,
        clustering=_clustering(settings, "complete"),  # the paper's; `linkage` is of the others
    )


def _clusterfl(settings: Settings, shared: dict[str, Any]) -> PhasedStrategy:
    rule = settings.clustering
    return ClusterFL(
        **shared,
        clustering=_clustering(settings, rule.linkage),
        every=rule.recluster_every,
        penalties=Penalties(rule.admm_alpha, rule.admm_beta, rule.admm_rho),
    )


def _clustering(settings: Settings, linkage: str) -> Clustering:
    rule = settings.clustering
    return Clustering(rule.clusters, linkage, rule.min_cluster_size, rule.min_silhouette)


STRATEGIES: dict[str, Callable[[Settings, dict[str, Any]], PhasedStrategy]] = {
    "caafp": _caafp,
    "fedavg": _fedavg,
    "fedsnip": _fedsnip,
    "efficientfl": _efficientfl,
    "fedchar": _fedchar,
    "clusterfl": _clusterfl,
}
"""By the names that ``settings.names`` lists."""
