"""Leaving out what a mask of whole filters has removed: the network really is smaller then."""

import copy

import numpy as np
from numpy.typing import NDArray
from torch import nn

from caafp_app.models.resize import resize
from caafp_app.pruning.filters import cut, places_of_mask
from caafp_app.training import dump_arrays, load_arrays

Masks = dict[str, NDArray[np.bool_]]


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
