"""Which filters of a network are kept, and the really smaller network that they make.

A chain of convolutions and dense layers is meant, in the order of its arrays, each weight array of
shape (outputs, inputs, kernel...), as torch has them. Without a filter go its row in the layer's
weights, its entry in the layer's bias and normalisation, and its inputs in the next layer: one of a
convolution, one column per position of a dense layer behind a flattening of (filters, positions).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import SettingsError

Arrays = Mapping[str, NDArray[Any]]
Places = dict[str, tuple[NDArray[np.intp], ...]]
"""By array name: what is kept along each axis, ascending."""


def strongest_filters(weights: NDArray[np.floating], density: float) -> NDArray[np.intp]:
    """Return the filters of largest L1 norm, ascending; ties to the lower index.

    Parameters
    ----------
    weights : NDArray[np.floating]
        Of a convolution, shape [filters, inputs, kernel...].
    density : float
        Share of the filters that is kept, in (0, 1]: ``floor(density filters + 1/2)``, at least 1.

    Returns
    -------
    NDArray[np.intp]
        Shape [kept].
    """
    count = max(int(density * len(weights) + 0.5), 1)
    norms = np.abs(weights.reshape(len(weights), -1)).sum(axis=1, dtype=np.float64)
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def choose_filters(arrays: Arrays, density: float, prunable: Iterable[str]) -> Places:
    """Choose the filters of each prunable convolution, and what of every array is left with them.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        The full network, layers in order.
    density : float
        Share of the filters kept in each layer, in (0, 1].
    prunable : iterable of str
        Names of the arrays that may lose filters; of these only those with three or more axes do.

    Returns
    -------
    Places
        For every array with an axis. All of an axis where nothing is cut.

    Raises
    ------
    SettingsError
        If there is no such convolution, or a layer does not follow on the one before it.
    """
    names = set(prunable)
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
                kept = place[0] = strongest_filters(array, density)
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
    """Take the smaller network out of the full one; copies."""
    return {
        name: array[np.ix_(*places[name])] if name in places else array.copy()
        for name, array in arrays.items()
    }


def write_back(arrays: Arrays, small: Arrays, places: Places) -> dict[str, NDArray[Any]]:
    """Return the full network with the smaller one's values at their places.

    Law: ``cut(write_back(full, small, places), places) == small``; all else is that of `arrays`.
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
