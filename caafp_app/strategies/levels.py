"""Devices of different strength: each level is given its own part of a cluster's model.

As in HeteroFL (Diao, Ding, Tarokh, ICLR 2021) and FedRolex, but a part is chosen by scores.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.objective import CUT_FILTERS
from caafp_app.pruning.evidence import Evidence
from caafp_app.pruning.filters import choose_share, cut, filter_mask, places_of_mask
from caafp_app.pruning.levels import PooledEvidence, level_of, nested_masks
from caafp_app.runner.model import MeanUpdate, SparseModel, combine
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client
from caafp_app.runner.summed import Summed
from caafp_app.runs.checkpoint import State
from caafp_app.strategies.masks import inside

Bits = NDArray[np.bool_]


class Nested:
    """The parts of each cluster's model in one run, first those of `model`'s largest weights.

    The shares of the levels fall from 1. With `by_filters` a part is a smaller network, with fewer
    filters; else it is a sparser one.
    """

    def __init__(
        self, model: SparseModel, shares: tuple[float, ...] = (1.0,), *, by_filters: bool = False
    ) -> None:
        self.shares, self.by_filters = shares, by_filters
        self.compared = 0  # the level by which clients are compared
        self._masks: dict[int, tuple[Mask, ...]] = {}
        self.choose(-1, model, np.abs(model.flat.weights))

    def __bool__(self) -> bool:
        """Whether there is more than one level."""
        return len(self.shares) > 1

    def level(self, client: Client) -> int:
        """Return a client's level."""
        return level_of(self.shares, min(client.strength, client.pace))

    def choose(self, number: int, model: SparseModel, scores: NDArray[np.floating]) -> None:
        """Choose the parts of a cluster's model anew, by scores of all weights [P]."""
        if not self:
            return
        layout, bits, shares = model.layout, model.mask.bits, self.shares[1:]
        if self.by_filters:
            arrays, layers = model.arrays(copy=False), model.mask.by_layer()
            split = layout.split(scores)
            kept = [choose_share(arrays, layers, split, share) for share in shares]
            masks = [inside(model.mask, filter_mask(layers, one)) for one in kept]
        else:
            parts = nested_masks(bits, scores, layout.segments, shares)
            masks = [Mask(layout, part) for part in parts]
        self._masks[number] = tuple(masks)

    def mask(self, number: int, model: SparseModel, level: int) -> Mask:
        """Return the mask of a level, inside that of its cluster's model."""
        if level == 0:
            return model.mask
        found = self._masks.get(number, self._masks[-1])[level - 1]
        bits = found.bits & model.mask.bits
        return found if np.array_equal(bits, found.bits) else Mask(model.layout, bits)

    def parts(self, number: int, model: SparseModel) -> dict[str, Mask]:
        """Return the masks of all levels but the first, by their share as "0.25"."""
        shares = enumerate(self.shares)
        return {f"{s:g}": self.mask(number, model, level) for level, s in shares if level}

    def split(self, query: Query) -> list[Query]:
        """Divide a query by the levels of its clients, the widest one first; without any: as it is.

        Gradients, by which weights grow back, are asked of the widest level alone: only it has the
        cluster's own mask.
        """
        members: dict[int, list[Client]] = {}
        for client in query.clients:
            members.setdefault(self.level(client), []).append(client)
        if members.keys() <= {0}:
            return [query]
        made = [
            replace(self.narrowed(query, level), clients=tuple(members[level]))
            for level in sorted(members)
        ]
        return [made[0], *(replace(one, gradients=()) for one in made[1:])]

    def narrowed(self, query: Query, level: int) -> Query:
        """Return the query with the part of a level in place of the whole model."""
        if level == 0:
            return query
        model = self.part(query.model, self.mask(query.group, query.model, level))
        config = {**query.config, CUT_FILTERS: 1.0} if self.by_filters else query.config
        return replace(query, model=model, level=level, config=config)

    def part(self, model: SparseModel, mask: Mask) -> SparseModel:
        """Return what a device trains: the model inside a level's mask, or the smaller network."""
        sparse = model.with_mask(mask)
        if not self.by_filters:
            return sparse
        arrays = sparse.arrays(copy=False)
        return smaller(model.layout, cut(arrays, places_of_mask(arrays, mask.by_layer())))

    def widened(self, mask: Mask, mean: MeanUpdate) -> MeanUpdate:
        """Return the update of a part as one of the whole model, inside the level's mask."""
        if not self.by_filters:
            return mean
        layout = mask.layout
        # Both orders are those of the arrays, and within one of their positions: packed values are
        # those of the smaller network, one after another.
        at = _rest_of(layout, mask)
        rest = np.zeros(layout.rest_count)
        rest[at] = mean.rest
        return replace(mean, mask=mask, rest=rest, rest_at=at)

    def compare(self, query: Query) -> Query:
        """Return the query with the part that all clients can train, to compare them by."""
        return self.narrowed(query, self.compared)

    def sizes(self, number: int, model: SparseModel) -> list[float]:
        """Return how large each level's part of a cluster's model is, from the widest on.

        Of whole filters computing and bytes both fall with the parameters. Single weights that are
        missing are not sent, but multiplied all the same.
        """
        masks = [self.mask(number, model, level) for level in range(len(self.shares))]
        if not self.by_filters:
            return [float(mask.count) for mask in masks]
        parts = [model, *(self.part(model, mask) for mask in masks[1:])]
        return [float(part.layout.parameter_count) for part in parts]

    def settle(self, clients: Iterable[Client]) -> None:
        """Let clients be compared by the narrowest level that one of them has."""
        self.compared = max((self.level(client) for client in clients), default=0)

    def mean(self, model: SparseModel, answers: Sequence[Summed]) -> MeanUpdate | None:
        """Combine the mean updates of a cluster's levels, weight by weight; None without any."""
        means = []
        for summed in answers:
            mean, query = summed.mean(), summed.query
            if mean is not None and query.level:
                mask = self.mask(query.group, model, query.level)
                mean = self.widened(mask, mean)
            if mean is not None:
                means.append(mean)
        return combine(means) if means else None

    def pooled(self, number: int, model: SparseModel, evidence: Mapping[int, Evidence]) -> Evidence:
        """Return what all levels of a cluster say of the active weights of its model."""
        if not evidence.keys() - {0}:
            return evidence.get(0, Evidence(model.mask.count))
        bits = model.mask.bits
        parts = [
            (found, np.flatnonzero(self.mask(number, model, level).bits[bits]))
            for level, found in sorted(evidence.items())
        ]
        return PooledEvidence(model.mask.count, parts)

    def state(self) -> State:
        masks = {n: [mask.packed for mask in some] for n, some in sorted(self._masks.items())}
        return {"compared": self.compared, "masks": masks}

    def restore(self, layout: Layout, state: State) -> None:
        self.compared = int(state["compared"])
        self._masks = {
            int(number): tuple(Mask.unpack(layout, packed) for packed in some)
            for number, some in state["masks"].items()
        }


def smaller(whole: Layout, arrays: Mapping[str, NDArray[Any]]) -> SparseModel:
    """Return a network of which filters were cut out as a dense model of its own."""
    entries = tuple(replace(entry, shape=arrays[entry.name].shape) for entry in whole.entries)
    layout = Layout(entries)
    return SparseModel(layout.flatten(arrays), Mask.full(layout), whole=whole.weight_count)


def _rest_of(layout: Layout, mask: Mask) -> Bits:
    """Return which of the rest [R] the smaller network of a mask has."""
    empty = {entry.name: np.zeros(entry.shape, np.bool_) for entry in layout.entries}
    places = places_of_mask(empty, mask.by_layer())
    for name, kept in places.items():
        empty[name][np.ix_(*kept)] = True
    rest = [empty[e.name] if e.shape else np.True_ for e in layout.rest_entries]
    return np.concatenate([np.zeros(0, np.bool_), *map(np.ravel, rest)])
