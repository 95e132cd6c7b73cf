"""What a strategy asks: one kind of message to some clients, and one sum of their answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from caafp_app.protocol.gradient import SparseGradient
from caafp_app.protocol.messages import Action
from caafp_app.runner.model import SparseModel
from caafp_app.runner.roster import Client

Scalar = bool | int | float | str


@dataclass(frozen=True, eq=False)
class Update:
    """One client's decoded answer.

    `values` [mask.count] are trained minus received, at active weights, or their saliencies; `rest`
    [R] is the same of what is not prunable, zeros with saliencies. `other` are buffers as the
    client returned them, `gradient` is at inactive weights, if asked for.
    """

    values: NDArray[Any]
    rest: NDArray[Any]
    other: dict[str, NDArray[Any]]
    gradient: SparseGradient | None = None

    @property
    def nbytes(self) -> int:
        """Memory of all its arrays."""
        arrays = [self.values, self.rest, *self.other.values()]
        if self.gradient is not None:
            arrays += [self.gradient.index, self.gradient.value]
        return sum(array.nbytes for array in arrays)


@dataclass(frozen=True, eq=False)
class Query:
    """One kind of message, and one sum.

    Clients that are told different things, or are given different models, are different queries.

    Attributes
    ----------
    action : Action
    clients : tuple of Client
    model : SparseModel
        What each client is sent, and what its update is relative to.
    group : int
        The number of the clients' cluster, as they are told it; -1: none. Bounds on updates are
        kept by group.
    config : mapping
        Added to the user's own config for these clients, e.g. a key of `protocol.objective`.
    wants : frozenset of str
        Registered sums (`caafp_app.registry.SUMS`) besides the mean of the updates.
    gradients : tuple of int
        How many gradients at inactive weights each client sends, by layer; empty: none.
    records : mapping of str to ArrayRecord
        Sent besides to a client that is not known to hold anything from before.
    uniform : bool
        Weigh the clients alike, whatever their examples.
    each : callable, optional
        Called with each client's update; what it returns is kept, by label.
    adds : bool
        Whether the updates are added up at all.
    level : int
        Which part of the group's model the clients are given, from the whole one on; parts have
        bounds of their own.
    trials : NDArray[np.bool_], optional
        Which active weights to keep [n, mask.count]: the model is evaluated once for each row.
    """

    action: Action
    model: SparseModel
    clients: tuple[Client, ...]
    group: int = -1
    config: Mapping[str, Scalar] = field(default_factory=dict)
    wants: frozenset[str] = frozenset()
    gradients: tuple[int, ...] = ()
    records: Mapping[str, ArrayRecord] = field(default_factory=dict)
    uniform: bool = False
    each: Callable[[Update], Any] | None = None
    adds: bool = True
    level: int = 0
    trials: NDArray[np.bool_] | None = None
