"""How the mean of the updates is taken: exactly, or so that a few liars cannot move it.

An aggregation is registered by name (`caafp_app.registry.AGGREGATIONS`); see `pruning.robust`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.pruning import robust

Rule = Callable[[Sequence[NDArray[Any]], Sequence[float]], NDArray[np.float64]]
"""From n vectors [A], in the order of labels, and n weights."""


@dataclass(frozen=True)
class Aggregation:
    """How one update is made of many; with neither rule, the exact weighted mean.

    Attributes
    ----------
    vector : callable, optional
        A rule by coordinate: it returns a vector [A] that takes the place of the mean. Other sums
        of the query are weighted sums, as they are with the mean.
    shares : callable, optional
        A rule by geometry: it returns the share [n] of each client, the weights of all sums.

    With either, each reply is held until the round ends.
    """

    vector: Rule | None = None
    shares: Rule | None = None


mean = Aggregation()
trimmed_mean = Aggregation(vector=robust.trimmed_mean)
median = Aggregation(vector=robust.median)
multi_krum = Aggregation(shares=robust.multi_krum)
geometric_median = Aggregation(shares=robust.geometric_median)
