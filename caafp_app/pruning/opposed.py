"""Which updates of one round point against most others'."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.pruning.influence import ENOUGH
from caafp_app.pruning.robust import inner_products

AGREE = 0.2
"""Clients agree where the median of their agreements (`opposed`) is at least this, a cosine.

Of honest clients with labels as uneven as Dirichlet .1 it mostly is not: they pull in all
directions, and none of them is an outlier by its direction.
"""

OPPOSED = 0.5
"""An update is opposed by so many times the others' agreement, or more."""


def opposed(vectors: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
    """Tell which clients of one round move against most others: bool [n], of n vectors [A].

    A client's agreement is the median cosine of its vector with each other one. It is opposed if it
    agrees with the others by less than ``-OPPOSED`` times the median agreement of all, and that is
    at least `AGREE`. Less than half of the clients cannot turn the medians of the rest. A liar that
    reverses its update undoes more than its share however short it is, so no bound of norms keeps
    three of ten from it. A vector of zeros agrees with nobody and opposes nobody. Where there is no
    majority of those that agree, nobody is opposed.

    To leave out updates by their direction is of FLTrust (Cao, Fang, Liu, Gong, NDSS 2021), which
    cuts at a cosine of 0 with an update of the server's own data; to compare clients pairwise in
    its place, of FLAME (Nguyen et al., USENIX Security 2022). The bound by the agreement is ours.
    """
    count = len(vectors)
    nobody = np.zeros(count, dtype=np.bool_)
    if count <= ENOUGH:
        return nobody
    products = inner_products(vectors)
    lengths = np.sqrt(np.diag(products))
    lengths[lengths == 0] = np.inf
    cosines = products / lengths[:, None] / lengths
    others = cosines[~np.eye(count, dtype=np.bool_)].reshape(count, count - 1)
    agreements = np.median(others, axis=1)
    usual = float(np.median(agreements))
    found: NDArray[np.bool_] = agreements < -OPPOSED * usual
    agreed = usual >= max(AGREE, 2 / math.sqrt(max(vectors[0].size, 1)))  # short ones do by chance
    return found if agreed and 2 * found.sum() < count else nobody
