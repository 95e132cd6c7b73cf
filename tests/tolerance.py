"""Equal but for rounding: the tolerance follows the size and the dtype of what is compared.

Processors add in different orders, so the last bits of a result differ between machines. An
absolute tolerance that fits one machine's results fails on another's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

ROUNDINGS = 100.0
"""Units in the last place that a result may be off: some hundred additions in another order."""


def tolerance(
    expected: Any, dtype: Any = None, *, roundings: float = ROUNDINGS, size: float | None = None
) -> float:
    """Largest difference that rounding explains: ``roundings * eps(dtype) * size``.

    `dtype` is that of `expected`, and `size` its largest absolute value, unless given. Give
    `size` where large terms cancel, as in a mean that has to be zero.
    """
    array = _array(expected)
    kind = np.dtype(dtype or (array.dtype if array.dtype.kind == "f" else np.float64))
    if size is None:
        size = float(np.abs(array).max(initial=0.0))
    return roundings * float(np.finfo(kind).eps) * size


def close(
    found: Any,
    expected: Any,
    dtype: Any = None,
    *,
    roundings: float = ROUNDINGS,
    size: float | None = None,
) -> None:
    """Assert that arrays, tensors or numbers, or mappings or networks of them, are equal so far.

    See `tolerance`. Each array of a mapping or network is held to its own size.
    """
    if isinstance(expected, nn.Module):
        found, expected = found.state_dict(), expected.state_dict()
    if isinstance(expected, Mapping):
        assert list(found) == list(expected)
        for name in expected:
            close(found[name], expected[name], dtype, roundings=roundings, size=size)
        return
    most = tolerance(expected, dtype, roundings=roundings, size=size)
    np.testing.assert_allclose(_array(found), _array(expected), rtol=0, atol=most)


def _array(value: Any) -> np.ndarray[Any, Any]:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
