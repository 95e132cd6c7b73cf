"""From settings to the strategy they name."""

from caafp_app.runs.observer import Observer
from caafp_app.settings import Settings
from caafp_app.strategies.caafp import CAAFP
from caafp_app.strategies.cluster_model import ScoreRule
from caafp_app.strategies.phased import PhasedStrategy
from caafp_app.strategies.requests import WireFormat
from caafp_app.strategies.rules import Clustering, Pruning


def make_strategy(settings: Settings, observer: Observer) -> PhasedStrategy:
    """Build the strategy; `Settings` has checked its name."""
    rounds, pruning = settings.rounds, settings.pruning
    return CAAFP(
        min_available_nodes=rounds.min_available_nodes,
        clients_per_round=rounds.clients_per_round,
        cluster_floor=rounds.cluster_floor,
        seed=settings.run.seed,
        uniform=rounds.weighting == "uniform",
        spare_first=pruning.spare_first_layer,
        spare_last=pruning.spare_last_layer,
        wire=WireFormat(settings.wire.down_dtype, settings.wire.up_dtype, settings.wire.rest_dtype),
        one_exchange=True,
        evaluate_every=rounds.evaluate_every,
        average_last=rounds.average_last,
        split="validation" if settings.data.validation_fraction > 0 else "test",
        observer=observer,
        warmup_rounds=rounds.warmup_rounds,
        cluster_rounds=rounds.cluster_rounds,
        prune_rounds=rounds.prune_rounds,
        clustering=Clustering(
            settings.clustering.clusters,
            settings.clustering.linkage,
            settings.clustering.min_cluster_size,
        ),
        pruning=Pruning(
            sparsity=pruning.sparsity,
            initial_sparsity=pruning.initial_sparsity,
            schedule=pruning.schedule,
            every=pruning.prune_every,
            initial_mask=pruning.initial_mask,
            allocation=pruning.allocation,
            regrow=pruning.regrow,
            score=ScoreRule(
                pruning.score_magnitude,
                pruning.score_coherence,
                pruning.score_consistency,
                pruning.coherence,
            ),
        ),
    )
