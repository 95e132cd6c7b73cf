"""A sparse model as one safetensors file: active values and mask bits, no zeros.

==================  =======================================================================
``values/<name>``   active weights of a prunable array in row-major order, its dtype
``mask/<name>``     its mask, one bit a weight, little bit first: uint8 [ceil(n / 8)]
``dense/<name>``    any other array
==================  =======================================================================

The metadata has ``format``, ``version``, and ``shapes``: JSON, the shape of every array by name, in
the order of the model. A layer of n weights at density d takes ``4 n d + n / 8`` bytes as float32.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import RunError, reading
from caafp_app.runs.tensors import read_tensors, write_tensors

FORMAT, VERSION = "caafp-sparse", "1"
_MAX_AXES, _MAX_ELEMENTS = 32, 1 << 32


def write_sparse(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    mask: Mapping[str, NDArray[np.bool_]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a model atomically, without what is outside the mask (True: active)."""
    tensors: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        if name in mask:
            tensors[f"values/{name}"] = array[mask[name]]
            tensors[f"mask/{name}"] = np.packbits(mask[name].reshape(-1), bitorder="little")
        else:
            tensors[f"dense/{name}"] = array
    shapes = json.dumps({name: array.shape for name, array in arrays.items()})
    told = {**(metadata or {}), "format": FORMAT, "version": VERSION, "shapes": shapes}
    write_tensors(path, tensors, told)


def read_sparse(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.bool_]]]:
    """Read what `write_sparse` wrote: the dense model, zero where pruned, and its mask.

    Raises RunError if the file is not one of these, or its parts do not fit together.
    """
    tensors, told = read_tensors(path)
    if (told.get("format"), told.get("version")) != (FORMAT, VERSION):
        raise RunError(
            f"{path}: expected a file of format {FORMAT}, version {VERSION}, found "
            f"{told.get('format', 'none')}, version {told.get('version', 'none')}"
        )
    arrays: dict[str, NDArray[Any]] = {}
    masks: dict[str, NDArray[np.bool_]] = {}
    for name, shape in _shapes(path, told).items():
        if f"dense/{name}" in tensors:
            arrays[name] = tensors[f"dense/{name}"]
            continue
        values, packed = tensors.get(f"values/{name}"), tensors.get(f"mask/{name}")
        size = math.prod(shape)
        # The bits are at hand: no more memory is taken than eight times their length.
        if values is None or packed is None or packed.size != -(-size // 8):
            raise RunError(f"{path}: expected values and {size} mask bits of {name!r}")
        bits = np.unpackbits(packed, count=size, bitorder="little").astype(np.bool_)
        if values.shape != (np.count_nonzero(bits),):
            raise RunError(
                f"{path}: expected {np.count_nonzero(bits)} values of {name!r}, found {values.size}"
            )
        masks[name] = bits.reshape(shape)
        arrays[name] = np.zeros(shape, values.dtype)
        arrays[name][masks[name]] = values
    return arrays, masks


def _shapes(path: Path, told: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    with reading(f"the shapes of the arrays in {path}", RunError):
        shapes = {name: tuple(shape) for name, shape in json.loads(told["shapes"]).items()}
    for name, shape in shapes.items():
        plain = len(shape) <= _MAX_AXES and all(type(n) is int and n >= 0 for n in shape)
        if not plain or math.prod(shape) > _MAX_ELEMENTS:
            raise RunError(f"{path}: {name!r} has an impossible shape: {shape}")
    return shapes
