"""A model as a value, and how far it moves: nothing here changes once it is made."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.protocol.mask import Mask
from caafp_app.pruning.bounds import scaled
from caafp_app.pruning.robust import is_variance
from caafp_app.runs.checkpoint import State
from caafp_app.vectors.chunks import chunks

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SparseModel:
    """Weights, rest and buffers of a model, and the mask of its active weights.

    Attributes
    ----------
    flat : FlatModel
        Zero at inactive weights; read-only.
    mask : Mask
    whole : int
        Prunable weights of the network that this one is a part of; -1: its own.
    """

    flat: FlatModel
    mask: Mask
    whole: int = -1

    def __post_init__(self) -> None:
        """Put the mask on, in a copy, and freeze."""
        weights = self.flat.weights
        if not self.mask.is_full:
            weights = np.where(self.mask.bits, weights, weights.dtype.type(0))
        frozen = [weights.view(), self.flat.rest.view()]
        for array in frozen:
            array.setflags(write=False)
        object.__setattr__(self, "flat", FlatModel(frozen[0], frozen[1], self.flat.other))

    @classmethod
    def dense(cls, layout: Layout, flat: FlatModel) -> Self:
        """Return a model of which no weight is pruned."""
        return cls(flat, Mask.full(layout))

    @property
    def layout(self) -> Layout:
        """Of the model's arrays."""
        return self.mask.layout

    @property
    def whole_count(self) -> int:
        """Prunable weights of the whole network."""
        return self.mask.bits.size if self.whole < 0 else self.whole

    @property
    def density(self) -> float:
        """Active share of the prunable weights of the whole network."""
        return self.mask.count / self.whole_count if self.whole_count else 1.0

    def arrays(self, *, copy: bool = True) -> dict[str, NDArray[Any]]:
        """Return the model as named arrays; see `Layout.unflatten`."""
        return self.layout.unflatten(self.flat, copy=copy)

    def at(self, mask: Mask) -> NDArray[np.floating]:
        """Return the weights that `mask` has, and the rest, as one vector [mask.count + R]."""
        return np.concatenate([mask.select(self.flat.weights), self.flat.rest])

    def with_mask(self, mask: Mask) -> Self:
        """Return the model inside another mask; weights that are new to it are zero."""
        return replace(self, mask=mask)

    def scaled(self, factor: float) -> Self:
        """Return the model, `factor` times as long; itself for 1."""
        flat = self.flat
        weights, rest = scaled(flat.weights, factor), scaled(flat.rest, factor)
        return replace(self, flat=FlatModel(weights, rest, flat.other)) if factor != 1 else self

    def moved(self, update: "MeanUpdate") -> Self:
        """Return the model moved by an update; where the update has no weight, it stays."""
        step = update.on(self.mask)
        weights, rest = self.flat.weights.copy(), self.flat.rest.copy()
        if self.mask.is_full:
            _add(weights, step.values)
        else:
            active = weights[self.mask.active]
            _add(active, step.values)
            weights[self.mask.active] = active
        _add(rest, step.rest)
        for name, part in self.layout.split(rest, self.layout.rest_entries).items():
            if is_variance(name):  # below 0, who normalises by it gets NaN
                np.maximum(part, 0, out=part)
        other = {**self.flat.other, **step.other}
        return replace(self, flat=FlatModel(weights, rest, other))

    def to_state(self) -> State:
        """Return what a checkpoint keeps of the model; the inverse of `from_state`."""
        # As bytes: safetensors knows fewer dtypes than layouts do.
        other = {
            name: np.atleast_1d(array).reshape(-1).view(np.uint8)
            for name, array in self.flat.other.items()
        }
        return {
            "whole": self.whole,
            "weights": self.flat.weights,
            "rest": self.flat.rest,
            "mask": self.mask.packed,
            "other": other,
        }

    @classmethod
    def from_state(cls, layout: Layout, state: State) -> Self:
        """Build the model that `state` describes.

        Raises KeyError, ValueError or ProtocolError if it is not one of this layout.
        """
        mask = Mask.unpack(layout, state["mask"])
        mask = Mask.full(layout) if mask.is_full else mask
        weights = state["weights"].reshape(layout.weight_count).astype(layout.dtype)
        rest = state["rest"].reshape(layout.rest_count).astype(layout.dtype)
        other = {
            entry.name: state["other"][entry.name].copy().view(entry.dtype).reshape(entry.shape)
            for entry in layout.other_entries
        }
        return cls(FlatModel(weights, rest, other), mask, int(state["whole"]))


@dataclass(frozen=True, eq=False)
class MeanUpdate:
    """How far a group of clients would move a model: the mean of their updates.

    Attributes
    ----------
    mask : Mask
        Of the model that they were given.
    values, rest : NDArray[np.float64]
        At active weights [mask.count], and of what is not prunable [R].
    weight : float
        Sum of the clients' weights: their examples, or how many they are.
    other : mapping of str to ndarray
        Integer buffers: the median over the clients.
    rest_at : NDArray[np.bool_], optional
        Which of the rest the clients were given [R]; None: all. Elsewhere `rest` is zero.
    """

    mask: Mask
    values: Vector
    rest: Vector
    weight: float
    other: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    rest_at: NDArray[np.bool_] | None = None

    def on(self, mask: Mask) -> "MeanUpdate":
        """Return the update at the active weights of `mask`; zero where this one has none."""
        if mask is self.mask or mask == self.mask:
            return self
        return replace(self, mask=mask, values=mask.select(self.mask.scatter(self.values)))

    def with_values(self, values: Vector, rest: Vector) -> "MeanUpdate":
        """Return an update of the same mask and weight with other values [mask.count], [R]."""
        return replace(self, values=values, rest=rest)

    def plus(self, other: "MeanUpdate", factor: float = 1.0) -> "MeanUpdate":
        """Return this update plus `factor` times another, inside this one's mask."""
        its = other.on(self.mask)
        return self.with_values(self.values + factor * its.values, self.rest + factor * its.rest)

    def times(self, factor: float) -> "MeanUpdate":
        """Return the update, `factor` times as long."""
        return self.with_values(factor * self.values, factor * self.rest)

    @classmethod
    def nothing(cls, model: SparseModel) -> Self:
        """Return the update that moves a model nowhere."""
        return cls(model.mask, np.zeros(model.mask.count), np.zeros(model.layout.rest_count), 0.0)


def combine(updates: Sequence[MeanUpdate]) -> MeanUpdate:
    """Combine updates of models that share a layout but not a mask, position by position.

    Law: ``u_i = sum_l W_l u_l,i / sum_l W_l`` over the updates l whose mask has weight i; likewise
    for the rest. So a weight that few have moves as far as one that all have. The mask of the
    result is the union; of one update it is that update.
    """
    if len(updates) == 1:
        return updates[0]
    first = updates[0]
    layout = first.mask.layout
    total = sum(update.weight for update in updates)
    moved, having = np.zeros(layout.weight_count), np.zeros(layout.weight_count)
    rest, rest_at = np.zeros(layout.rest_count), None
    for update in updates:
        share = update.weight / total
        moved[update.mask.active] += share * update.values
        having[update.mask.active] += share
        rest += share * update.rest
    np.divide(moved, having, out=moved, where=having > 0)
    if any(update.rest_at is not None for update in updates):
        shares = np.zeros(layout.rest_count)
        for update in updates:
            shares += update.weight / total * (True if update.rest_at is None else update.rest_at)
        np.divide(rest, shares, out=rest, where=shares > 0)
        rest_at = shares > 0
    mask = first.mask
    if any(update.mask != mask for update in updates):
        mask = Mask(layout, np.logical_or.reduce([update.mask.bits for update in updates]))
    return MeanUpdate(mask, mask.select(moved), rest, total, first.other, rest_at)


def mean_model(models: Iterable[tuple[SparseModel, float]]) -> SparseModel:
    """Return the weighted mean of models of one layout; buffers and `whole` are the first one's.

    Law: ``w = sum_k a_k w_k / sum_k a_k``, in float64, of at least one model and positive weights.
    The mask is the union of theirs. Models are taken one at a time.
    """
    total, first = 0.0, None
    weights = rest = np.empty(0)
    bits: NDArray[np.bool_] | None = None
    for model, weight in models:
        if first is None:
            first = model
            weights, rest = np.zeros(model.flat.weights.size), np.zeros(model.flat.rest.size)
        elif model.mask != first.mask:
            bits = (first.mask.bits if bits is None else bits) | model.mask.bits
        weights += weight * model.flat.weights
        rest += weight * model.flat.rest
        total += weight
    if first is None or not total:
        raise ValueError("expected at least one model of positive weight, found none")
    dtype = first.layout.dtype
    flat = FlatModel(
        (weights / total).astype(dtype), (rest / total).astype(dtype), first.flat.other
    )
    return replace(first, flat=flat, mask=first.mask if bits is None else Mask(first.layout, bits))


def _add(vector: NDArray[np.floating], step: Vector) -> None:
    """Add in place, in float64, rounded once to the vector's own dtype."""
    with np.errstate(over="ignore"):  # training that diverges ends in infinity, as with FedAvg
        for part in chunks(vector.size):
            vector[part] = vector[part] + step[part]
