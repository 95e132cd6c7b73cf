"""One cluster's model on the server: weights, mask, and the running sums of a round.

Each reply is added to the sums and let go, so memory does not depend on the number of clients.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.protocol.gradient import SparseGradient
from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.protocol.mask import Mask
from caafp_app.pruning.reproducible import largest_magnitude
from caafp_app.pruning.statistics import (
    GradientSums,
    RoundSums,
    UpdateStatistics,
    accumulate,
)
from caafp_app.runs.checkpoint import State
from caafp_app.strategies.robust import MEAN, HeldReplies


@dataclass(frozen=True)
class Update:
    """One client's decoded reply.

    Attributes
    ----------
    values : ndarray [mask.count]
        Trained minus received, at active weights.
    rest : ndarray [R]
        The same of the rest.
    other : dict of ndarray
        Buffers as the client returned them.
    gradient : SparseGradient or None
        At inactive weights, if asked for.
    """

    values: NDArray[Any]
    rest: NDArray[Any]
    other: dict[str, NDArray[Any]]
    gradient: SparseGradient | None = None


class ClusterModel:
    """The model that the clients of one cluster share.

    Parameters
    ----------
    model : FlatModel
        Initial weights; copied. Weights outside `mask` are set to zero.
    mask : Mask
        Which weights are active.
    whole : int, optional
        Prunable weights of the network that this one is a part of; by default its own.
    """

    def __init__(self, model: FlatModel, mask: Mask, whole: int | None = None) -> None:
        self.model = model.copy()
        self.mask = mask
        self.whole = mask.bits.size if whole is None else whole
        self.model.weights[~mask.bits] = 0
        self.statistics: UpdateStatistics | None = None
        self.gradients: GradientSums | None = None
        self._statistics_now: UpdateStatistics | None = None
        self._past: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self._past_count = 0
        self._aggregation = MEAN
        self._begin()

    @property
    def layout(self) -> Layout:
        """The layout of the model."""
        return self.mask.layout

    @property
    def density(self) -> float:
        """Active share of the prunable weights of the whole network."""
        return self.mask.count / self.whole if self.whole else 1.0

    @property
    def replies(self) -> int:
        """How many updates this round has had."""
        return self._sums.replies

    @property
    def weight(self) -> float:
        """Sum of the weights of this round's updates: their examples, or how many they are."""
        return self._sums.weight

    def _begin(self) -> None:
        self._sums = RoundSums(self.mask.count)
        self._rest = RoundSums(self.layout.rest_count)
        self._other_from = ""
        self._other: dict[str, NDArray[Any]] = {}
        rule = self._aggregation
        self._held = None if rule == MEAN else HeldReplies(rule)

    def collect(self, *, statistics: bool, gradients: bool, aggregation: str = MEAN) -> None:
        """Say what this round's updates are added to, besides the mean, and if that is robust."""
        if aggregation != self._aggregation:
            self._aggregation = aggregation
            self._begin()
        if statistics and self.statistics is None:
            self.statistics = UpdateStatistics(self.mask.count)
        self._statistics_now = self.statistics if statistics else None
        if gradients and self.gradients is None:
            self.gradients = GradientSums(self.layout.weight_count)

    def add(self, label: str, update: Update, weight: float) -> None:
        """Add one client's update to the sums of the round.

        Buffers that are not averaged are taken from the first label in alphabetic order, so that
        the order of arrival decides nothing.
        """
        # Refused before anything is added: a reply enters all sums or none.
        peak = largest_magnitude(update.rest, self.layout.rest_count)
        self._rest.total.check(peak * weight)
        gradients = self.gradients if update.gradient is not None else None
        if gradients is not None and update.gradient is not None:
            peak = largest_magnitude(update.gradient.value, update.gradient.index.size)
            gradients.total.check(peak * weight)
        accumulate(update.values, weight, self._sums, self._statistics_now)
        self._rest.add(update.rest, weight)
        if self._held is not None:
            self._held.add(update.values, update.rest)
        if update.other and (not self._other_from or label < self._other_from):
            self._other_from, self._other = label, update.other
        if gradients is not None and update.gradient is not None:
            gradients.add(update.gradient.index, update.gradient.value, weight)

    def end_round(self, *, move: bool = True) -> None:
        """Move the model by the mean of the updates; without any it stays as it is.

        Parameters
        ----------
        move : bool
            False: the replies are too few. They are in the statistics all the same: how honest
            replies to one model agree is known from few as well.
        """
        if self._sums.replies:
            if self._statistics_now is not None:
                self._statistics_now.end_round(self._sums)
            if move:
                self._move()
        self._begin()

    def _move(self) -> None:
        active = self.model.weights if self.mask.is_full else self.mask.select(self.model.weights)
        if self._held is not None:
            self._held.move(active, self.model.rest)
        else:
            self._sums.move(active)
            self._rest.move(self.model.rest)
        if not self.mask.is_full:
            self.model.weights[self.mask.active] = active
        if self._other:
            self.model.other = {name: array.copy() for name, array in self._other.items()}

    def remember(self) -> None:
        """Add the model as it is now to those that `average` takes the mean of."""
        if self._past is None:
            zeros = np.zeros(self.layout.weight_count), np.zeros(self.layout.rest_count)
            self._past, self._past_count = zeros, 0
        self._past[0][:] += self.model.weights
        self._past[1][:] += self.model.rest
        self._past_count += 1

    def average(self) -> None:
        """Replace the model by the mean of those remembered (stochastic weight averaging)."""
        if self._past is not None:
            self.model.weights[:] = self._past[0] / self._past_count
            self.model.rest[:] = self._past[1] / self._past_count
            self._past = None

    def forget_statistics(self) -> None:
        """Let the statistics start anew: they are of the weights of one mask."""
        self.statistics = self._statistics_now = None

    def put_on(self, mask: Mask) -> None:
        """Go on with another mask; grown weights start at zero."""
        self.mask = mask
        self.model.weights[~mask.bits] = 0
        self.gradients = None
        self._past = None  # models of another mask
        self._begin()

    def state(self) -> State:
        """Return all that the model is between two rounds: the sums of a round are empty then."""
        state = State(
            {"whole": self.whole, "past": self._past_count if self._past is not None else 0},
            {"weights": self.model.weights, "rest": self.model.rest, "mask": self.mask.packed},
        )
        for name, array in self.model.other.items():
            # As bytes: safetensors knows fewer dtypes than layouts do.
            state.arrays[f"other/{name}"] = np.atleast_1d(array).reshape(-1).view(np.uint8)
        if self._past is not None:
            state.arrays |= {"past-weights": self._past[0], "past-rest": self._past[1]}
        for kind, sums in (("statistics", self.statistics), ("gradients", self.gradients)):
            if sums is not None:
                state.put(kind, State({}, sums.state_dict()))
        return state

    @classmethod
    def from_state(cls, layout: Layout, state: State) -> Self:
        """Build the model that `state` described.

        Raises
        ------
        RunError
            If it is not one of this layout.
        """
        mask = Mask.unpack(layout, state.array("mask"))
        weights = state.array("weights", (layout.weight_count,)).astype(layout.dtype)
        rest = state.array("rest", (layout.rest_count,)).astype(layout.dtype)
        other = {}
        for entry in layout.other_entries:
            size = entry.size * np.dtype(entry.dtype).itemsize
            content = state.array(f"other/{entry.name}", (size,))
            other[entry.name] = content.copy().view(entry.dtype).reshape(entry.shape)
        restored = cls(FlatModel(weights, rest, other), mask, int(state.fact("whole")))
        if mask.is_full:
            restored.mask = Mask.full(layout)
        if count := int(state.fact("past")):
            shapes = (layout.weight_count,), (layout.rest_count,)
            names = ("past-weights", "past-rest")
            past = [state.array(n, shape).copy() for n, shape in zip(names, shapes, strict=True)]
            restored._past, restored._past_count = (past[0], past[1]), count
        if "statistics" in state.facts:
            sums = state.part("statistics").arrays
            restored.statistics = UpdateStatistics.from_state(sums)
        if "gradients" in state.facts:
            restored.gradients = GradientSums.from_state(state.part("gradients").arrays)
        return restored
