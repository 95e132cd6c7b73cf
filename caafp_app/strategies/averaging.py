"""The mean of the models after the last rounds (stochastic weight averaging)."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.runner.model import SparseModel
from caafp_app.runs.checkpoint import State

Sums = tuple[NDArray[np.float64], NDArray[np.float64]]


class LastModels:
    """Sums of the models after the last `count` of `rounds`: one round's depends on its draw."""

    def __init__(self, count: int, rounds: int) -> None:
        self._first = rounds - count + 1
        self._sums: dict[int, Sums] = {}  # of weights [P] and rest [R], by cluster
        self._counts: dict[int, int] = {}

    def note(self, round_: int, models: Mapping[int, SparseModel], *, changed: bool) -> None:
        """Add the models after a round; `changed`: start anew, they are not those of before."""
        if changed:
            self._sums, self._counts = {}, {}
        if round_ < self._first:
            return
        for number, model in models.items():
            flat = model.flat
            if number not in self._sums:
                self._sums[number] = np.zeros(flat.weights.size), np.zeros(flat.rest.size)
            weights, rest = self._sums[number]
            weights += flat.weights
            rest += flat.rest
            self._counts[number] = self._counts.get(number, 0) + 1

    def put_on(self, models: Mapping[int, SparseModel]) -> dict[int, SparseModel]:
        """Return the models with their mean weights; those without one as they are."""
        found = dict(models)
        for number, count in self._counts.items():
            if number in found:
                model, (weights, rest) = found[number], self._sums[number]
                dtype, other = model.layout.dtype, model.flat.other
                flat = FlatModel(
                    (weights / count).astype(dtype), (rest / count).astype(dtype), other
                )
                found[number] = SparseModel(flat, model.mask, model.whole)
        return found

    def state(self) -> State:
        return {"counts": self._counts, "sums": self._sums}

    def restore(self, layout: Layout, state: State) -> None:
        self._counts = {int(number): int(n) for number, n in state["counts"].items()}
        self._sums = {
            int(number): (
                weights.reshape(layout.weight_count).copy(),
                rest.reshape(layout.rest_count).copy(),
            )
            for number, (weights, rest) in state["sums"].items()
        }
