"""Leaving out what a mask of whole filters has removed: the network really is smaller then."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from caafp_app.errors import SettingsError
from caafp_app.models.resize import resize
from caafp_app.pruning.filters import cut, filter_mask, places_of_mask
from caafp_app.training import dump_arrays, load_arrays

Masks = dict[str, NDArray[np.bool_]]


def masks_filters(arrays: Mapping[str, NDArray[Any]], mask: Masks) -> bool:
    """Tell whether a mask removes whole filters and nothing else, of a network that is a chain."""
    try:
        whole = filter_mask(arrays, places_of_mask(arrays, mask))
    except SettingsError:  # no chain of layers
        return False
    if all(layer.all() for layer in mask.values()):
        return False
    return all(np.array_equal(whole[name], layer) for name, layer in mask.items())


def shrunk(model: nn.Module, mask: Masks) -> tuple[nn.Module, Masks]:
    """Return the network without its removed filters, and what is left of its mask.

    Law: it computes what the full one does, for what a removed filter says is multiplied with
    pruned weights everywhere. The model is left as it is; the mask is as ``granularity=filter``
    makes it. Raises SettingsError if the network is no plain chain of layers.
    """
    arrays = dump_arrays(model)
    places = places_of_mask(arrays, mask)
    small = cut(arrays, places)
    model = copy.deepcopy(model)
    resize(model, small)
    load_arrays(model, small)
    return model, {name: np.asarray(layer) for name, layer in cut(mask, places).items()}
