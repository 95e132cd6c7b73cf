"""How a cluster's mask changes: weights scored, pruned and regrown, or whole filters removed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caafp_app.protocol.mask import Mask
from caafp_app.pruning.filters import choose_by_weight, filter_mask
from caafp_app.pruning.importance import importance
from caafp_app.pruning.segments import packed_segments
from caafp_app.pruning.select import MaskUpdate, update_mask
from caafp_app.pruning.statistics import UpdateStatistics
from caafp_app.strategies.cluster_model import ClusterModel


@dataclass(frozen=True)
class ScoreRule:
    """How the importance of weights is put together: see `pruning.importance`."""

    magnitude: float = 0.5
    coherence: float = 0.25
    consistency: float = 0.25
    form: str = "relative"


def score_weights(model: ClusterModel, rule: ScoreRule) -> NDArray[np.float64]:
    """Score each active weight [mask.count], from the sums since the last mask update."""
    statistics = model.statistics or UpdateStatistics(model.mask.count)
    variance = statistics.variance()
    return importance(
        model.mask.select(model.model.weights),
        variance,
        statistics.sign_agreement(),
        segments=active_segments(model),
        score_weights=(rule.magnitude, rule.coherence, rule.consistency),
        form=rule.form,
        out=variance,
    )


def active_segments(model: ClusterModel) -> tuple[slice, ...]:
    """Return each layer's slice of the active weights."""
    return packed_segments(model.mask.bits, model.layout.segments)


def evolve(
    model: ClusterModel, scores: NDArray[np.float64], counts: NDArray[np.int64], regrow: float
) -> MaskUpdate:
    """Prune and regrow to exactly `counts` active weights per layer; grown ones start at zero.

    The statistics start anew: they are of the weights of one mask.
    """
    model.forget_statistics()  # their memory is of use below
    layout = model.layout
    gradient = (
        model.gradients.spend()
        if model.gradients is not None
        else np.zeros(layout.weight_count, dtype=np.float64)
    )
    change = update_mask(model.mask.bits, scores, gradient, counts, regrow, layout.segments)
    model.put_on(Mask(layout, change.mask))
    return change


def remove_filters(model: ClusterModel, scores: NDArray[np.float64], density: float) -> None:
    """Keep whole filters alone, until at most `density` of the prunable weights is active.

    Parameters
    ----------
    model : ClusterModel
    scores : NDArray[np.float64]
        Of active weights [mask.count], at least 0; a filter counts by its sum. Filters that are
        gone have none, and stay gone.
    density : float
        In (0, 1].

    Raises
    ------
    SettingsError
        The network is no plain chain of layers: see `pruning.filters`.
    """
    model.forget_statistics()
    layout = model.layout
    every = np.zeros(layout.weight_count, dtype=np.float64)
    every[model.mask.active] = scores
    by_layer = layout.split(every)
    places = choose_by_weight(layout.unflatten(model.model), by_layer, density)
    layers = filter_mask(by_layer, places).values()
    bits = np.concatenate([layer.reshape(-1) for layer in layers])
    model.put_on(Mask(layout, bits & model.mask.bits))
