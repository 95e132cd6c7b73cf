"""From settings to the strategy they name."""

from collections.abc import Callable
from typing import Any

from caafp_app.clustering.admm import Penalties
from caafp_app.errors import SettingsError
from caafp_app.pruning.score_text import parse_score
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
        "spare_first": pruning.spares_first,
        "spare_last": pruning.spares_last,
        "wire": WireFormat(
            settings.wire.down_dtype, settings.wire.up_dtype, settings.wire.rest_dtype
        ),
        "one_exchange": True,
        "evaluate_every": rounds.evaluate_every,
        "average_last": rounds.average_last,
        "split": "validation" if settings.data.validation_fraction > 0 else "test",
        "min_replies": rounds.min_replies,
        "aggregation": rounds.aggregation,
        "observer": observer,
        "checkpoints": checkpoints,
        "stop": stop,
    }
    strategy, arguments = settings.run.strategy, dict(settings.run.strategy_arguments)
    if strategy not in STRATEGIES:  # `Settings` has checked its form
        return make_plugged(strategy, settings, shared | arguments)
    try:
        return STRATEGIES[strategy](settings, shared, arguments)
    except TypeError as error:
        if "keyword argument" not in str(error):
            raise
        raise SettingsError(
            f"strategy-args: expected arguments of strategy {strategy!r}, found: {error}"
        ) from error


Arguments = dict[str, Any]


def _caafp(settings: Settings, shared: Arguments, own: Arguments) -> PhasedStrategy:
    rounds, pruning = settings.rounds, settings.pruning
    clustering = _clustering(settings, own)
    return CAAFP(
        **shared,
        **own,
        warmup_rounds=rounds.warmup_rounds,
        cluster_rounds=rounds.cluster_rounds,
        prune_rounds=rounds.prune_rounds,
        clustering=clustering,
        pruning=Pruning(
            sparsity=pruning.sparsity,
            initial_sparsity=pruning.initial_sparsity,
            schedule=pruning.schedule,
            every=pruning.prune_every,
            initial_mask=pruning.initial_mask,
            allocation=pruning.allocation,
            regrow=pruning.regrow,
            granularity=pruning.granularity,
            score=_score(pruning.score),
        ),
    )


def _fedavg(settings: Settings, shared: Arguments, own: Arguments) -> PhasedStrategy:
    return FedAvg(**shared, **own)


def _fedsnip(settings: Settings, shared: Arguments, own: Arguments) -> PhasedStrategy:
    return FedSNIP(**shared, **own, sparsity=settings.pruning.sparsity)


def _efficientfl(settings: Settings, shared: Arguments, own: Arguments) -> PhasedStrategy:
    return EfficientFL(**shared, **own, sparsity=settings.pruning.sparsity)


def _fedchar(settings: Settings, shared: Arguments, own: Arguments) -> PhasedStrategy:
    own.setdefault("linkage", "complete")  # the paper's
    clustering = _clustering(settings, own)
    warmup = settings.rounds.warmup_rounds
    return FedCHAR(**shared, **own, warmup_rounds=warmup, clustering=clustering)


def _clusterfl(settings: Settings, shared: Arguments, own: Arguments) -> PhasedStrategy:
    clustering = _clustering(settings, own)
    penalties = _taken(own, admm_alpha="alpha", admm_beta="beta", admm_rho="rho")
    return ClusterFL(**shared, **own, clustering=clustering, penalties=Penalties(**penalties))


def _clustering(settings: Settings, own: Arguments) -> Clustering:
    """Take what is of the clustering out of a strategy's own arguments."""
    names = {"linkage": "linkage", "min_cluster_size": "min_size"}
    rule = _taken(own, **names, min_silhouette="min_silhouette")
    return Clustering(settings.clustering.clusters, **rule)


def _taken(own: Arguments, **names: str) -> Arguments:
    return {name: own.pop(key) for key, name in names.items() if key in own}


def _score(text: str) -> ScoreRule:
    parts = dict(parse_score(text))
    forms = [name for name in parts if name.startswith("coherence")] or ["coherence"]
    known = {"magnitude", "consistency", *forms}
    if len(forms) > 1 or not parts.keys() <= known:
        raise SettingsError(
            "score: expected magnitude, consistency and one of coherence and coherence-paper, "
            f"found {text!r}"
        )
    return ScoreRule(
        parts.get("magnitude", 0.0),
        parts.get(forms[0], 0.0),
        parts.get("consistency", 0.0),
        "paper" if forms == ["coherence-paper"] else "relative",
    )


STRATEGIES: dict[str, Callable[[Settings, Arguments, Arguments], PhasedStrategy]] = {
    "caafp": _caafp,
    "fedavg": _fedavg,
    "fedsnip": _fedsnip,
    "efficientfl": _efficientfl,
    "fedchar": _fedchar,
    "clusterfl": _clusterfl,
}
"""By name."""
