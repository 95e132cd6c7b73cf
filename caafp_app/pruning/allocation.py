"""How many weights of each layer stay active at a given density of the whole model.

A rule is registered by name (`caafp_app.registry.ALLOCATIONS`): a function of `Layers`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import MaskUpdateError, SettingsError
from caafp_app.pruning.segments import segments_of
from caafp_app.registry import ALLOCATIONS
from caafp_app.vectors.largest import largest

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Layers:
    """What a rule divides active weights among: layers, of which `least` weights have to stay.

    The whole model is to have the share `density`, in (0, 1], active. `sizes` and `least` are
    counts [layers], `shapes` those of the layers' arrays, `scores` the importance of their active
    weights, if known.
    """

    sizes: Counts
    least: Counts
    density: float
    shapes: Sequence[Sequence[int]] | None = None
    scores: Sequence[NDArray[np.floating]] | None = None

    @property
    def total(self) -> int:
        """Active weights of the whole model."""
        return floor(int(self.sizes.sum()) * self.density + 0.5)


@dataclass(frozen=True)
class Allocation:
    """A rule: from `Layers` to the active weights of each layer [layers].

    With `needs_scores` the counts follow from scores, and so are not known before a mask update.
    """

    count: Callable[[Layers], Counts]
    needs_scores: bool = False


def layer_counts(
    sizes: Sequence[int] | Counts,
    density: float,
    rule: str = "uniform",
    *,
    shapes: Sequence[Sequence[int]] | None = None,
    scores: Sequence[NDArray[np.floating]] | None = None,
) -> Counts:
    """Return the number of active weights of each layer, shape [layers].

    The rules, for layers of n weights, N in all, at density d:

    - ``uniform``: ``floor(n d + 1/2)`` in each layer (the paper's).
    - ``erk``: Erdos-Renyi kernel (Evci et al., "Rigging the Lottery", 2020): a layer's density is
      proportional to ``(out + in + kernel...) / (out in kernel...)``, at most 1.
    - ``global``: the most important weights of the whole model stay. Where more are to be active
      than there are scores, each layer keeps what it has, and the rest goes by its free places.
    - ``quota``: the same, but each layer keeps between half and twice its uniform count.

    Law: the counts of all rules but ``uniform`` sum to ``floor(N d + 1/2)``. Each layer that is not
    empty keeps at least one weight and at most n; where that alone is more than the density
    allows, it is what is returned.

    Raises SettingsError if the rule is unknown, or the density is outside (0, 1], and
    MaskUpdateError if the shapes or scores that the rule needs are missing or do not fit the sizes.
    """
    if not 0.0 < density <= 1.0:
        raise SettingsError(f"expected a density in (0, 1], found {density}")
    upper = np.asarray(sizes, dtype=np.int64)
    layers = Layers(upper, np.minimum(upper, 1), density, shapes, scores)
    found: Allocation = ALLOCATIONS[rule]
    return found.count(layers)


def _uniform(layers: Layers) -> Counts:
    counts = np.floor(layers.sizes * layers.density + 0.5).astype(np.int64)
    clipped: Counts = np.clip(counts, layers.least, layers.sizes)
    return clipped


def _erk(layers: Layers) -> Counts:
    """Solve ``sum_l min(n_l, eps (out + in + kernel...)_l) = total`` and round."""
    sizes, shapes, total = layers.sizes, layers.shapes, layers.total
    if layers.least.sum() > total:
        return layers.least
    if shapes is None or [int(np.prod(shape)) for shape in shapes] != sizes.tolist():
        raise MaskUpdateError(
            f"expected a shape for each layer, of {sizes.tolist()} weights, found {shapes}"
        )
    raw = np.array([sum(shape) if np.prod(shape) else 0 for shape in shapes], dtype=np.float64)
    quotas = sizes.astype(np.float64)
    free = (layers.least < sizes) & (raw > 0)
    while free.any():
        scale = (total - sizes[~free].sum()) / raw[free].sum()
        quotas[free] = scale * raw[free]
        capped = free & (quotas > sizes)
        if not capped.any():
            break
        quotas[capped] = sizes[capped]
        free &= ~capped
    return _apportion(quotas, total, layers.least, sizes)


def _global(layers: Layers) -> Counts:
    """Count each layer's share of the best scores, with its minimum set aside first."""
    sizes, lower, total, scores = layers.sizes, layers.least, layers.total, layers.scores
    if lower.sum() > total:
        return lower
    if scores is None or len(scores) != sizes.size:
        raise MaskUpdateError(f"expected the scores of {sizes.size} layers for a global allocation")
    active = np.array([layer.size for layer in scores], dtype=np.int64)
    if (active > sizes).any():
        raise MaskUpdateError(f"expected at most {sizes.tolist()} scores, found {active.tolist()}")
    kept = np.maximum(active, lower)
    if total >= kept.sum():
        room = sizes - kept
        quotas = kept + room * ((total - kept.sum()) / max(int(room.sum()), 1))
        return _apportion(quotas, total, kept, sizes)
    ranked = np.concatenate([layer.astype(np.float64) for layer in scores])
    for segment, least in zip(segments_of(active), lower, strict=True):
        layer = ranked[segment]
        layer[largest(layer, min(int(least), layer.size))] = np.inf
    # A layer that keeps more than it has scores for takes places without scores.
    chosen = largest(ranked, total - int((kept - active).sum()))
    counts = [np.count_nonzero(chosen[segment]) for segment in segments_of(active)]
    return np.array(counts, dtype=np.int64) + kept - active


def _quota(layers: Layers) -> Counts:
    """Hold the counts of ``global`` to quotas, and divide evenly what these free or take."""
    fair = _uniform(layers)
    lower, upper = np.maximum(layers.least, fair // 2), np.minimum(layers.sizes, 2 * fair)
    counts = _global(layers)
    if not lower.sum() <= layers.total <= upper.sum():
        return counts
    counts = np.clip(counts, lower, upper)
    return _apportion(counts.astype(np.float64), layers.total, lower, upper)


def _apportion(quotas: NDArray[np.float64], total: int, lower: Counts, upper: Counts) -> Counts:
    """Round quotas to whole numbers of a given sum, by largest remainder within the bounds."""
    counts = np.clip(np.floor(quotas).astype(np.int64), lower, upper)
    while gap := total - int(counts.sum()):
        step = 1 if gap > 0 else -1
        movable = np.flatnonzero(counts < upper if step > 0 else counts > lower)
        order = np.argsort(-step * (quotas - counts)[movable], kind="stable")
        counts[movable[order[: abs(gap)]]] += step
    return counts


uniform = Allocation(_uniform)
erk = Allocation(_erk)
global_ = Allocation(_global, needs_scores=True)
quota = Allocation(_quota, needs_scores=True)
