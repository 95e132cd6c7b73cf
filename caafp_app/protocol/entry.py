"""One named array of a model, as a layout lists it."""

import math
from dataclasses import dataclass
from typing import Any, Self

from caafp_app.errors import ProtocolError

FLOATS = ("float16", "float32", "float64")
"""Dtypes that are averaged, and that may be pruned."""
CARRIED = (
    *("bool", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "complex64", "complex128"),
)
"""Dtypes that are passed on as they are."""

MAX_ELEMENTS = 1 << 32
MAX_AXES = 32


@dataclass(frozen=True)
class Entry:
    """Name, shape and dtype of an array, and whether it may be pruned.

    `carried`: it is of floating numbers, but of infinite ones too, as a mask of attention is.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    prunable: bool
    carried: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def averaged(self) -> bool:
        """Whether the array is of floating numbers that can be averaged."""
        return self.dtype in FLOATS and not self.carried

    def check(self) -> None:
        """Refuse, by ProtocolError, what no model holds, before memory is taken for it."""
        if self.dtype not in FLOATS + CARRIED:
            known = ", ".join(FLOATS + CARRIED)
            raise ProtocolError(f"array {self.name!r} has dtype {self.dtype!r}; known are {known}")
        # numpy multiplies the axes of empty arrays too, the zeros left out.
        volume = math.prod(max(axis, 1) for axis in self.shape)
        if len(self.shape) > MAX_AXES or min(self.shape, default=0) < 0 or volume > MAX_ELEMENTS:
            raise ProtocolError(f"array {self.name!r} has an impossible shape: {self.shape}")
        if self.prunable and (not self.averaged or self.size == 0):
            raise ProtocolError(f"array {self.name!r} is empty or not floating: not prunable")

    def to_row(self) -> list[object]:
        """Return the entry as JSON takes it: name, shape, dtype, 1 if prunable, 2 if carried."""
        return [self.name, list(self.shape), self.dtype, 2 if self.carried else int(self.prunable)]

    @classmethod
    def from_row(cls, row: Any) -> Self:
        """Read a row of unknown origin, for `check` to judge.

        Raises ValueError or TypeError if it is none.
        """
        name, shape, dtype, kind = _typed(row, list)
        axes = tuple(_typed(axis, int) for axis in _typed(shape, list))
        kind = _typed(kind, int)
        return cls(_typed(name, str), axes, _typed(dtype, str), kind == 1, kind == 2)


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:  # not isinstance: True is not a length
        raise TypeError(f"expected {kind.__name__}, found {value!r:.40}")
    return value
