"""EfficientFL: clients train a really smaller network, made of the strongest filters.

Wu, Song, Zeng, et al., Complex & Intelligent Systems 9(6), 2023.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import SettingsError
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action
from caafp_app.protocol.objective import CUT_FILTERS
from caafp_app.pruning.filters import Places, choose_filters, cut, write_back
from caafp_app.pruning.schedule import RoundPlan, even_plan
from caafp_app.runner.model import SparseModel
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client
from caafp_app.runner.runner import Answers
from caafp_app.runs.checkpoint import State
from caafp_app.strategies.levels import smaller
from caafp_app.strategies.method import Method
from caafp_app.strategies.strategy import MethodStrategy


@dataclass(eq=False, kw_only=True)
class EfficientFL(MethodStrategy):
    """FedAvg of the filters of largest L1 norm, chosen anew before each round.

    The server keeps the full network. What goes out, is trained, comes back and is personalised is
    a smaller dense one (19 of 64 filters at sparsity 0.7), whose mean is written back to where it
    came from. Sparsity is reported over the full network's weights, and is more than that of the
    filters where both ends of a layer are cut.

    Needs a ClientApp that builds its network by the shapes of the received arrays, as ours does.
    With a lossy codec upwards, what is left over at a filter is added to the one in its place.

    Parameters
    ----------
    sparsity : float
        Share of each convolution's filters that is left out, in [0, 1). The others: see
        `MethodStrategy`.
    """

    sparsity: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.sparsity < 1.0:
            raise SettingsError(f"sparsity: expected at least 0 and below 1, found {self.sparsity}")

    @property
    def cuts_filters(self) -> bool:
        return True

    def plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        return even_plan(num_rounds, sparsity=self.sparsity)

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        """Keep the full network; ask for training of the small one in it."""
        return _EfficientFL(self, model, len(plan))


class _EfficientFL(Method):
    def __init__(self, args: EfficientFL, model: SparseModel, rounds: int) -> None:
        super().__init__(model)
        self.sparsity = args.sparsity
        self.rounds = rounds
        self._full_layout = model.layout
        self._full: dict[str, NDArray[Any]] = model.arrays()
        self._places: Places = {}
        self._choose()

    def facts(self) -> dict[str, object]:
        share = 1 - self.models[-1].density
        return {"pruning": f"{self.sparsity:.0%} of the filters, {share:.1%} of the weights"}

    def ask(self, action: Action, step: RoundPlan, clients: Sequence[Client]) -> list[Query]:
        """Say that the network is not that of the settings."""
        return [
            replace(query, config={CUT_FILTERS: 1.0})
            for query in super().ask(action, step, clients)
        ]

    def apply(self, step: RoundPlan, answers: Answers) -> bool:
        """Write the mean back, and choose again; after the last round the trained one stays."""
        super().apply(step, answers)
        self._full = write_back(self._full, self.models[-1].arrays(), self._places)
        return step.round < self.rounds and self._choose()

    def published(self) -> Mapping[int, SparseModel]:
        """Return the small network in the places of the full one, and zeros elsewhere.

        A layer that is zero in weights and bias passes nothing on: it computes the same.
        """
        small, layout = self.models[-1], self._full_layout
        empty = {name: np.zeros_like(array) for name, array in self._full.items()}
        ones = {name: np.ones_like(array) for name, array in cut(empty, self._places).items()}
        bits = layout.flatten(write_back(empty, ones, self._places)).weights != 0
        arrays = write_back(empty, small.arrays(), self._places)
        return {-1: SparseModel(layout.flatten(arrays), Mask(layout, bits))}

    def state(self) -> State:
        """Return the full network, which of its filters are trained, and the small one."""
        return super().state() | {"full": self._full, "places": self._places}

    def restore(self, state: State) -> None:
        self._full = {
            name: state["full"][name].reshape(array.shape).astype(array.dtype)
            for name, array in self._full.items()
        }
        self._places = {name: tuple(kept) for name, kept in state["places"].items()}
        self._cut()
        super().restore(state)

    def _choose(self) -> bool:
        """Take the small network out of the full one; return whether its filters changed."""
        names = [entry.name for entry in self._full_layout.weight_entries]
        places = choose_filters(self._full, 1 - self.sparsity, names)
        same = all(_equal(places[name], self._places.get(name)) for name in places)
        if same:  # the model lives on, so that the last rounds can be averaged
            return False
        self._places = places
        self._cut()
        return True

    def _cut(self) -> None:
        """Make the small network of the filters that were chosen."""
        small = smaller(self._full_layout, cut(self._full, self._places))
        self.layout, self.models = small.layout, {-1: small}


def _equal(one: tuple[NDArray[np.intp], ...], other: tuple[NDArray[np.intp], ...] | None) -> bool:
    return other is not None and all(map(np.array_equal, one, other))
