"""A cluster's network, put together again from a run directory."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from caafp_app.datasets.resolve import data_shape
from caafp_app.devices.personal import load_personal
from caafp_app.errors import RunError, SettingsError
from caafp_app.models import build_model
from caafp_app.models.resize import resize
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.pruning.filters import cut, filter_mask, places_of_mask
from caafp_app.runs.reading import read_run
from caafp_app.runs.tensors import read_tensors
from caafp_app.settings import Settings
from caafp_app.training import dump_arrays, load_arrays

Arrays = dict[str, NDArray[Any]]
Masks = dict[str, NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Trained:
    """A network that is ready to be exported.

    Attributes
    ----------
    name : str
        Such as ``cluster-0``.
    model : nn.Module
        In evaluation mode, on the CPU.
    mask : dict of ndarray of bool
        Active weights, by name and shape of each prunable array.
    class_names : tuple of str
        In the order of the logits.
    full_size : int
        Parameters and buffers of the network of the settings: those of `model`, or more where
        whole filters were left out.
    """

    name: str
    model: nn.Module
    mask: Masks
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    full_size: int

    @property
    def arrays(self) -> Arrays:
        """Copies of the network's parameters and buffers, in its own order."""
        return dump_arrays(self.model)

    @property
    def density(self) -> float:
        """Active share of the prunable weights of `model`."""
        active = sum(int(mask.sum()) for mask in self.mask.values())
        return active / max(sum(mask.size for mask in self.mask.values()), 1)


def load_cluster(run: Path, number: int | None = None, level: float = 1.0) -> Trained:
    """Read the model and the mask of a cluster from a run directory.

    Where the run removed whole filters (``granularity=filter``, ``strategy=efficientfl``) they are
    left out, and the network is as small as what is left of it.

    Parameters
    ----------
    number : int, optional
        The cluster; -1 is that of a method without clusters. None: the only one, or 0.
    level : float
        The part of it that devices of this level have; 1: all of it.

    Raises
    ------
    RunError
        It is no run directory, has no such cluster or level, or its files do not belong together.
    """
    files = read_run(run)
    settings = Settings.from_run_config(files.settings)
    if number is None:
        known = _known(run)
        name = known[0] if len(known) == 1 else "cluster-0"
    else:
        name = f"cluster-{number}"
    arrays, digest = _read(run / "models" / f"{name}.safetensors", run)
    packed = _read_mask(run, name)
    shape = data_shape(settings.data)
    model = build_model(settings.model.model, shape.input_shape, len(shape.class_names), seed=0)
    load_arrays(model, arrays)
    pruning = settings.pruning
    first, last = pruning.spares_first, pruning.spares_last
    layout = Layout.of(dump_arrays(model), spare_first=first, spare_last=last)
    mask = Mask.unpack(layout, packed)
    if mask.digest != digest:
        raise RunError(
            f"{run}: expected the mask {digest} of {name}, found {mask.digest}; model, mask and "
            "settings.json are not of one run"
        )
    if level != 1.0:
        name = f"level-{level:g}-{name}"
        mask = Mask(layout, mask.bits & Mask.unpack(layout, _read_mask(run, name)).bits)
        inside = mask.by_layer()
        load_arrays(model, {key: array * inside.get(key, 1) for key, array in arrays.items()})
    by_layer = mask.by_layer()
    full_size = sum(tensor.numel() for tensor in model.state_dict().values())
    if _masks_filters(dump_arrays(model), by_layer):
        model, by_layer = _shrunk(model, by_layer)
    return Trained(name, model.eval(), by_layer, shape.input_shape, shape.class_names, full_size)


def load_personal_network(folder: Path) -> Trained:
    """Read the personal model of one run from a device's ``state-dir``; its mask is not kept.

    Raises DataError if there is none, or it is damaged.
    """
    arrays, card = load_personal(folder)
    model = build_model(card.model, card.input_shape, len(card.class_names), seed=0)
    resize(model, arrays)  # some strategies cut whole filters
    load_arrays(model, arrays)
    mask = {name: np.ones(array.shape, bool) for name, array in arrays.items() if array.ndim > 1}
    size = sum(array.size for array in arrays.values())
    name = f"personal-{folder.name}"
    return Trained(name, model.eval(), mask, card.input_shape, card.class_names, size)


def _masks_filters(arrays: Mapping[str, NDArray[Any]], mask: Masks) -> bool:
    """Tell whether a mask removes whole filters and nothing else, of a network that is a chain."""
    try:
        whole = filter_mask(arrays, places_of_mask(arrays, mask))
    except SettingsError:  # no chain of layers
        return False
    if all(layer.all() for layer in mask.values()):
        return False
    return all(np.array_equal(whole[name], layer) for name, layer in mask.items())


def _shrunk(model: nn.Module, mask: Masks) -> tuple[nn.Module, Masks]:
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


def _known(run: Path) -> list[str]:
    """Return the names of the clusters of a run."""
    return sorted(file.stem for file in (run / "models").glob("cluster-*.safetensors"))


def _read_mask(run: Path, name: str) -> NDArray[Any]:
    path = run / "masks" / f"{name}.safetensors"
    arrays, _ = _read(path, run)
    if "mask" not in arrays:
        raise RunError(f"expected the array 'mask' in {path}, found {', '.join(arrays) or 'none'}")
    return arrays["mask"]


def _read(path: Path, run: Path) -> tuple[Arrays, str]:
    if not path.is_file():
        raise RunError(
            f"expected {path.name} in {path.parent}, found none; this run has "
            f"{', '.join(_known(run)) or 'no cluster yet: it did not come to its end'}"
        )
    arrays, metadata = read_tensors(path)
    return arrays, metadata.get("mask-digest", "")


def windows_like(trained: Trained, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw windows of standard normal numbers to compare on, float32 [count, *input_shape]."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, *trained.input_shape), dtype=np.float32)


def logits_of(model: nn.Module, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logits [n, classes] of a torch model."""
    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.from_numpy(windows)).numpy()
    return logits
