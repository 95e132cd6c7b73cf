"""Which filters of a network are kept, and the really smaller network that they make.

The network is a chain of convolutions and dense layers, each weight array of shape (outputs,
inputs, kernel...). With a filter go its row, its entry in bias and normalisation, and its inputs in
the next layer: one of a convolution, one column per position of a dense layer behind a flattening.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import SettingsError

Arrays = Mapping[str, NDArray[Any]]
Places = dict[str, tuple[NDArray[np.intp], ...]]
"""By array name: what is kept along each axis, ascending."""


def strongest_filters(weights: NDArray[np.floating], density: float) -> NDArray[np.intp]:
    """Return the filters of largest L1 norm of a convolution, ascending; ties to the lower index.

    Of `weights` [filters, inputs, kernel...] ``floor(density filters + 1/2)`` are kept, at least 1.
    """
    count = max(int(density * len(weights) + 0.5), 1)
    norms = np.abs(weights.reshape(len(weights), -1)).sum(axis=1, dtype=np.float64)
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def choose_filters(arrays: Arrays, density: float, prunable: Iterable[str]) -> Places:
    """Choose the filters of each prunable convolution, and follow them through all arrays.

    Of the arrays named `prunable` only those with three or more axes lose filters. Places are
    returned for every array with an axis.

    Raises SettingsError if there is no such convolution, or a layer does not follow on the one
    before it.
    """
    return _follow(arrays, set(prunable), lambda _, weights: strongest_filters(weights, density))


def choose_by_weight(
    arrays: Arrays, scores: Mapping[str, NDArray[np.floating]], density: float
) -> Places:
    """Choose filters so that at most a share of the prunable *weights* is left with them.

    Without a share of its filters a layer behind another loses weights twice, as rows and as
    columns; the share of filters, one for all layers, is the largest that keeps to `density`, but
    one filter of each stays at least. A filter counts by the sum of its `scores`, which are at
    least 0.
    """
    scored = {name: scores.get(name, array) for name, array in arrays.items()}
    allowed = density * sum(array.size for array in scores.values())

    def fits(places: Places) -> bool:
        return sum(math.prod(len(axis) for axis in places[name]) for name in scores) <= allowed

    places = choose_filters(scored, 1.0, scores)
    if fits(places):
        return places
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        fitting = fits(choose_filters(scored, middle, scores))
        low, high = (middle, high) if fitting else (low, middle)
    return choose_filters(scored, low, scores)


def choose_share(
    arrays: Arrays, mask: Mapping[str, NDArray[np.bool_]], scores: Arrays, share: float
) -> Places:
    """Choose a share of the filters that a mask of whole filters has left, those of largest score.

    Law: of a layer's m filters ``max(floor(share m + 1/2), 1)`` are kept, all of which any larger
    share keeps too. A filter counts by the sum of its `scores`; ties go to the lower index.
    """

    def kept(name: str, weights: NDArray[Any]) -> NDArray[np.intp]:
        there = _filters_in(mask[name])
        sums = scores[name].reshape(len(weights), -1).sum(axis=1, dtype=np.float64)[there]
        count = max(int(share * there.size + 0.5), 1)
        return np.sort(there[np.argsort(-sums, kind="stable")[:count]])

    return _follow(arrays, set(mask), kept)


def places_of_mask(arrays: Arrays, mask: Mapping[str, NDArray[np.bool_]]) -> Places:
    """Find the filters that a mask of whole filters keeps: the inverse of `filter_mask`."""
    return _follow(arrays, set(mask), lambda name, _: _filters_in(mask[name]))


def _filters_in(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    return np.flatnonzero(mask.any(axis=tuple(range(1, mask.ndim))))


def filter_mask(arrays: Arrays, places: Places) -> dict[str, NDArray[np.bool_]]:
    """Return a mask by name and shape of each array: True at the places."""
    mask = {name: np.zeros(array.shape, np.bool_) for name, array in arrays.items()}
    for name, bits in mask.items():
        bits[np.ix_(*places[name])] = True
    return mask


def _follow(
    arrays: Arrays,
    names: set[str],
    choose: Callable[[str, NDArray[Any]], NDArray[np.intp]],
) -> Places:
    """Choose the filters of each convolution in `names`, and follow them through the layers."""
    places: Places = {}
    filters, kept = 0, np.arange(0)  # of the layer before; 0: nothing is cut of it
    convolutions = 0
    for name, array in arrays.items():
        place = [np.arange(length) for length in array.shape]
        if array.ndim >= 2:
            if filters:
                place[1] = _inputs(name, array.shape, filters, kept)
            filters = 0
            if array.ndim >= 3 and name in names:
                convolutions += 1
                kept = place[0] = choose(name, array)
                filters = len(array)
        elif filters and array.shape == (filters,):
            place = [kept]
        if place:
            places[name] = tuple(place)
    if not convolutions:
        raise SettingsError(
            "expected a network with convolutions (prunable arrays of three or more axes), whose "
            f"filters can be cut; found the arrays {', '.join(arrays) or 'none'}"
        )
    return places


def cut(arrays: Arrays, places: Places) -> dict[str, NDArray[Any]]:
    """Copy the smaller network out: axis i of an array has ``len(places[name][i])`` elements."""
    return {
        name: array[np.ix_(*places[name])] if name in places else array.copy()
        for name, array in arrays.items()
    }


def write_back(arrays: Arrays, small: Arrays, places: Places) -> dict[str, NDArray[Any]]:
    """Return the full network with the smaller one's values at their places.

    Law: ``cut(write_back(full, small, places), places) == small``; all else is that of `arrays`.
    Shapes and dtypes are those of `arrays`; `small` has the shapes that `cut` gives.
    """
    whole = {name: array.copy() for name, array in arrays.items()}
    for name, array in small.items():
        if name in places:
            whole[name][np.ix_(*places[name])] = array
        else:
            whole[name] = array.copy()
    return whole


def _inputs(
    name: str, shape: tuple[int, ...], filters: int, kept: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return what a layer keeps of its inputs, which are the filters of the layer before it."""
    positions, rest = divmod(shape[1], filters)
    if rest or (len(shape) > 2 and positions != 1):
        raise SettingsError(
            f"array {name!r}: expected the {filters} filters of the layer before as its inputs, "
            f"found {shape[1]}; filters can be cut in plain chains of layers only"
        )
    columns: NDArray[np.intp] = kept[:, np.newaxis] * positions + np.arange(positions)
    return columns.reshape(-1)
