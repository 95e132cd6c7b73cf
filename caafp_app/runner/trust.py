"""How far one client may move a model: a bound on its update's norm, and one on its weight.

Both bounds of a round are settled before its first reply, from what was known then. So they need no
second look at a reply, and the order in which replies arrive decides nothing.
"""

import math
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from caafp_app.errors import ProtocolError
from caafp_app.protocol.layout import FlatModel
from caafp_app.vectors.scan import scan

NORM_FACTOR = 10.0
"""An update may be so many times as long as the median one, or as the model before there is any."""

MODEL_SHARE = 0.1
"""An update that is no longer than this share of the model's norm is never too long: where most
clients have little left to learn, one that comes late or is unlike them has."""

RECENT = 5
"""Rounds whose updates the median is over."""


class NormBound:
    """The largest norm that an update may have, by cluster.

    Without a fixed bound it is `NORM_FACTOR` times the median norm of the updates that the cluster
    took in its last `RECENT` rounds (of a cluster that has had none, that of all clusters), and at
    least `MODEL_SHARE` of the model's norm. In a run's first round it is `NORM_FACTOR` times the
    model's norm (none for a model of zeros): coarse, and enough for an update that is absurd.

    Parameters
    ----------
    fixed : float
        The bound; 0: by the median.
    """

    def __init__(self, fixed: float = 0.0) -> None:
        self.fixed = fixed
        self._recent: dict[int, deque[list[float]]] = {}
        self._now: dict[int, list[float]] = {}
        self._medians: dict[int, float] = {}
        self._overall = 0.0
        # Of models, which stand still in a round; held, so that an identity stays theirs.
        self._lengths: dict[int, tuple[FlatModel, float]] = {}

    def check(self, cluster: int, norm: float, model: FlatModel) -> None:
        """Refuse an update that is too long.

        Raises
        ------
        ProtocolError
        """
        limit = self.limit(cluster, model)
        if norm > limit:
            raise ProtocolError(
                f"expected an update of norm at most {limit:.3g}, found {norm:.3g}: refuse such a "
                "client, or set max_update_norm if it is honest"
            )

    def limit(self, cluster: int, model: FlatModel) -> float:
        """Return the bound in this round; `model` is what the update is added to."""
        if self.fixed:
            return self.fixed
        if id(model) not in self._lengths:
            self._lengths[id(model)] = model, scan(model.weights, model.rest).norm
        length = self._lengths[id(model)][1]
        usual = self._medians.get(cluster, self._overall)
        if usual:
            return max(NORM_FACTOR * usual, MODEL_SHARE * length)
        return NORM_FACTOR * length if length else math.inf

    def note(self, cluster: int, norm: float) -> None:
        """Take note of an update that was taken in; it counts from the next round on."""
        self._now.setdefault(cluster, []).append(norm)

    def end_round(self) -> None:
        """Settle the bounds of the next round."""
        for cluster, norms in self._now.items():
            recent = self._recent.setdefault(cluster, deque(maxlen=RECENT))
            recent.append(sorted(norms))
        self._now, self._lengths = {}, {}
        self._settle()

    def state(self) -> list[list[Any]]:
        """Return the norms by cluster and round, JSON-able."""
        return [[cluster, list(recent)] for cluster, recent in sorted(self._recent.items())]

    def restore(self, state: Iterable[Iterable[Any]]) -> None:
        """Take up what `state` returned."""
        self._recent = {
            int(cluster): deque(([float(n) for n in norms] for norms in recent), maxlen=RECENT)
            for cluster, recent in state
        }
        self._settle()

    def _settle(self) -> None:
        norms = {k: [n for part in recent for n in part] for k, recent in self._recent.items()}
        self._medians = {k: float(np.median(found)) for k, found in norms.items()}
        every = [n for found in norms.values() for n in found]
        self._overall = float(np.median(every)) if every else 0.0


def largest_weight(examples: Iterable[int], times: float) -> float:
    """Return what a client may weigh at most: `times` the median of the known example counts.

    Parameters
    ----------
    examples : iterable of int
        Of all clients; below 1: unknown.
    times : float
        0: no bound.
    """
    known = [count for count in examples if count > 0]
    if not times or not known:
        return math.inf
    return float(max(int(times * float(np.median(known))), 1))
