"""EfficientFL: clients train a really smaller network, made of the strongest filters.

Wu, Song, Zeng, et al., Complex & Intelligent Systems 9(6), 2023.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import SettingsError
from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action
from caafp_app.protocol.objective import CUT_FILTERS
from caafp_app.pruning.filters import Places, choose_filters, cut, write_back
from caafp_app.pruning.schedule import RoundPlan, even_plan
from caafp_app.runs.checkpoint import State
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.phased import PhasedStrategy
from caafp_app.strategies.roster import Client


class EfficientFL(PhasedStrategy):
    """FedAvg of the filters of largest L1 norm, chosen anew before each round.

    The server keeps the full network. What goes out, is trained, comes back and is personalised is
    a smaller dense one (19 of 64 filters at sparsity 0.7), whose mean is written back to where it
    came from. Sparsity is reported over the full network: the share of its prunable weights that
    the small one lacks, which is more than that of the filters where both ends of a layer are cut.

    Needs a ClientApp that builds its network by the shapes of the received arrays. Ours does. With
    a lossy codec upwards, what is left over at a filter is added to the one that takes its place.

    Parameters
    ----------
    *args, **kwargs
        FedAvg's own, and those of `PhasedStrategy`.
    sparsity : float
        Share of each convolution's filters that is left out, in [0, 1).
    """

    def __init__(self, *args: Any, sparsity: float = 0.7, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not 0.0 <= sparsity < 1.0:
            raise SettingsError(f"sparsity: expected at least 0 and below 1, found {sparsity}")
        self.sparsity = sparsity
        self._whole: dict[str, NDArray[Any]] = {}
        self._places: Places = {}

    def make_plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Make all rounds alike, of small networks."""
        return even_plan(num_rounds, sparsity=self.sparsity)

    def begin(self, layout: Layout, model: FlatModel) -> None:
        """Keep the full network, and take the first small one out of it."""
        self._layout = layout
        self._whole = layout.unflatten(model)
        self._choose()

    def facts(self) -> dict[str, object]:
        """Say how small the network is."""
        share = 1 - self.models[-1].density
        return {"pruning": f"{self.sparsity:.0%} of the filters, {share:.1%} of the weights"}

    def instructions(self, client: Client, action: Action) -> Mapping[str, float]:
        """Say that the network is not that of the settings."""
        return {CUT_FILTERS: 1.0}

    def after_round(self, step: RoundPlan) -> bool:
        """Write the mean back, and choose again; after the last round the trained one stays."""
        small = self.models[-1]
        arrays = small.layout.unflatten(small.model)
        self._whole = write_back(self._whole, arrays, self._places)
        return step.round < len(self.plan) and self._choose()

    def published(self) -> Mapping[int, ClusterModel]:
        """Return the small network in the places of the full one, and zeros elsewhere.

        Of a layer that is zero in weights and bias nothing passes on: it computes the same.
        """
        small, layout = self.models[-1], self._layout
        empty = {name: np.zeros_like(array) for name, array in self._whole.items()}
        ones = {name: np.ones_like(array) for name, array in cut(empty, self._places).items()}
        bits = layout.flatten(write_back(empty, ones, self._places)).weights != 0
        arrays = write_back(empty, small.layout.unflatten(small.model), self._places)
        return {-1: ClusterModel(layout.flatten(arrays), Mask(layout, bits))}

    def own_state(self) -> State:
        """Return the full network, and which of its filters are trained."""
        state = State({"axes": {}}, {f"whole/{k}": v for k, v in self._whole.items()})
        for name, kept in self._places.items():
            state.facts["axes"][name] = len(kept)
            state.arrays |= {f"place/{axis}/{name}": index for axis, index in enumerate(kept)}
        return state

    def restore_own(self, state: State) -> None:
        """Take up the full network, and take the same small one out of it."""
        self._whole = {
            name: state.array(f"whole/{name}", array.shape).astype(array.dtype)
            for name, array in self._whole.items()
        }
        self._places = {
            name: tuple(state.array(f"place/{axis}/{name}") for axis in range(int(axes)))
            for name, axes in state.fact("axes").items()
        }
        self._cut()

    def model_layout(self, layout: Layout) -> Layout:
        """Return the layout of the small network."""
        return self.models[-1].layout

    def _choose(self) -> bool:
        """Take the small network out of the full one; return whether its filters changed."""
        layout = self._layout
        names = [entry.name for entry in layout.weight_entries]
        places = choose_filters(self._whole, 1 - self.sparsity, names)
        same = all(_equal(places[name], self._places.get(name)) for name in places)
        if same:  # the model lives on, so that the last rounds can be averaged
            return False
        self._places = places
        self._cut()
        return True

    def _cut(self) -> None:
        """Make the small network of the filters that were chosen."""
        layout, arrays = self._layout, cut(self._whole, self._places)
        small = Layout(tuple(replace(e, shape=arrays[e.name].shape) for e in layout.entries))
        flat, mask = small.flatten(arrays), Mask.full(small)
        self.models = {-1: ClusterModel(flat, mask, whole=layout.weight_count)}


def _equal(one: tuple[NDArray[np.intp], ...], other: tuple[NDArray[np.intp], ...] | None) -> bool:
    return other is not None and all(map(np.array_equal, one, other))
