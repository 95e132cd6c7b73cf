"""The fixed order in which a model's named arrays become flat vectors, and back.

A model is split in three parts. *Weights*: the prunable arrays, one after another in one flat
vector; masks and scores are indexed by it. *Rest*: the other floating arrays (biases, norms),
likewise. *Other*: integer and boolean buffers, which are carried but never averaged.
"""

import fnmatch
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError, SettingsError

NamedArrays = Mapping[str, NDArray[Any]]
PrunableRule = Callable[[str, tuple[int, ...]], bool] | Iterable[str] | None

MAX_ENTRIES = 100_000
MAX_ELEMENTS = 1 << 34
_FLOATS = ("float16", "float32", "float64")
_OTHERS = (
    *("bool", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "complex64", "complex128"),
)


@dataclass(frozen=True)
class Entry:
    """One named array of a model."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    prunable: bool

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass
class FlatModel:
    """A model in flat form; the vectors are owned by whoever holds the object.

    Attributes
    ----------
    weights : ndarray, float32 or float64 [P]
        Prunable arrays in layout order.
    rest : ndarray, same dtype [R]
        Floating arrays that are not prunable.
    other : dict of ndarray
        Integer, boolean and complex buffers by name, untouched.
    """

    weights: NDArray[Any]
    rest: NDArray[Any]
    other: dict[str, NDArray[Any]]

    def copy(self) -> "FlatModel":
        """Return a deep copy."""
        other = {name: array.copy() for name, array in self.other.items()}
        return FlatModel(self.weights.copy(), self.rest.copy(), other)


@dataclass(frozen=True)
class Layout:
    """Names, shapes and dtypes of a model's arrays and which of them are prunable.

    The flat vectors are float64 if any floating array is, else float32, so that flattening loses
    nothing and ``unflatten(flatten(arrays)) == arrays`` bit for bit.
    """

    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        """Refuse layouts that no model has, before memory is taken for them."""
        if len(self.entries) > MAX_ENTRIES:
            raise ProtocolError(
                f"a layout has at most {MAX_ENTRIES} arrays, this one has {len(self.entries)}"
            )
        if len({entry.name for entry in self.entries}) != len(self.entries):
            raise ProtocolError("a layout's array names must differ; one stands twice here")
        for entry in self.entries:
            if entry.dtype not in _FLOATS + _OTHERS:
                raise ProtocolError(
                    f"array {entry.name!r} has dtype {entry.dtype!r}; known are "
                    f"{', '.join(_FLOATS + _OTHERS)}"
                )
            if any(axis < 0 for axis in entry.shape):
                raise ProtocolError(f"array {entry.name!r} has a negative axis: {entry.shape}")
            if entry.prunable and (entry.dtype not in _FLOATS or entry.size == 0):
                raise ProtocolError(f"array {entry.name!r} is empty or not floating: not prunable")
        if sum(entry.size for entry in self.entries) > MAX_ELEMENTS:
            raise ProtocolError(f"a layout holds at most {MAX_ELEMENTS} elements")

    @classmethod
    def of(
        cls,
        arrays: NamedArrays,
        prunable: PrunableRule = None,
        *,
        spare_first: bool = False,
        spare_last: bool = False,
    ) -> Self:
        """Describe `arrays`.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            The model, in the order that the flat vectors will have.
        prunable : callable, iterable of str, or None
            ``rule(name, shape) -> bool``, or names and globs such as ``"conv*.weight"``. None:
            every floating array with two or more axes.
        spare_first, spare_last : bool
            Leave the first / last prunable array dense.

        Raises
        ------
        SettingsError
            If a name or glob matches no floating array.
        """
        accepts = _rule(prunable, arrays)
        chosen = [
            name
            for name, array in arrays.items()
            if array.dtype.name in _FLOATS and array.size and accepts(name, array.shape)
        ]
        spared = set(chosen[: int(spare_first)]) | set(chosen[len(chosen) - int(spare_last) :])
        picked = set(chosen) - spared
        return cls(
            tuple(
                Entry(name, tuple(array.shape), array.dtype.name, name in picked)
                for name, array in arrays.items()
            )
        )

    @cached_property
    def weight_entries(self) -> tuple[Entry, ...]:
        """Prunable arrays in flat order."""
        return tuple(entry for entry in self.entries if entry.prunable)

    @cached_property
    def rest_entries(self) -> tuple[Entry, ...]:
        """Floating arrays that are not prunable, in flat order."""
        return tuple(e for e in self.entries if not e.prunable and e.dtype in _FLOATS)

    @cached_property
    def other_entries(self) -> tuple[Entry, ...]:
        """Arrays that are carried but not averaged."""
        return tuple(entry for entry in self.entries if entry.dtype not in _FLOATS)

    @cached_property
    def weight_count(self) -> int:
        """P, the number of prunable weights."""
        return sum(entry.size for entry in self.weight_entries)

    @cached_property
    def rest_count(self) -> int:
        """R, the number of floating values that are not prunable."""
        return sum(entry.size for entry in self.rest_entries)

    @property
    def parameter_count(self) -> int:
        """P + R."""
        return self.weight_count + self.rest_count

    @cached_property
    def segments(self) -> tuple[slice, ...]:
        """Each prunable array's slice of the flat weights."""
        return tuple(_slices(self.weight_entries))

    @cached_property
    def dtype(self) -> "np.dtype[Any]":
        """Dtype of the flat vectors."""
        wide = any(entry.dtype == "float64" for entry in self.entries)
        return np.dtype(np.float64 if wide else np.float32)

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the layout's JSON."""
        return hashlib.sha256(self.to_json()).hexdigest()[:16]

    def flatten(self, arrays: NamedArrays) -> FlatModel:
        """Copy named arrays into flat vectors.

        Raises
        ------
        ProtocolError
            If a name is missing or too many, or a shape differs.
        """
        self._check(arrays)
        return FlatModel(
            weights=self._join(arrays, self.weight_entries, self.weight_count),
            rest=self._join(arrays, self.rest_entries, self.rest_count),
            other={e.name: np.array(arrays[e.name], dtype=e.dtype) for e in self.other_entries},
        )

    def unflatten(self, model: FlatModel) -> dict[str, NDArray[Any]]:
        """Copy flat vectors back into named arrays, in layout order, with their own dtypes."""
        parts = {
            **self.split(model.weights, self.weight_entries),
            **self.split(model.rest, self.rest_entries),
            **model.other,
        }
        return {e.name: np.array(parts[e.name], dtype=e.dtype) for e in self.entries}

    def split(
        self, flat: NDArray[Any], entries: Sequence[Entry] | None = None
    ) -> dict[str, NDArray[Any]]:
        """View a flat vector (default: of weights, or a mask over them) as named arrays."""
        entries = self.weight_entries if entries is None else entries
        return {
            entry.name: flat[part].reshape(entry.shape)
            for entry, part in zip(entries, _slices(entries), strict=True)
        }

    def to_json(self) -> bytes:
        """Serialise; the inverse of `from_json`."""
        rows = [[e.name, list(e.shape), e.dtype, int(e.prunable)] for e in self.entries]
        return json.dumps(rows, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a layout from bytes of unknown origin.

        Raises
        ------
        ProtocolError
            If the bytes are not a layout.
        """
        try:
            rows = json.loads(data)
            entries = tuple(
                Entry(_text(name), tuple(_axis(a) for a in shape), _text(dtype), bool(prunable))
                for name, shape, dtype, prunable in rows
            )
        except (ValueError, TypeError, RecursionError) as error:
            raise ProtocolError(f"not a layout: {error}") from error
        return cls(entries)

    def _join(self, arrays: NamedArrays, entries: Sequence[Entry], size: int) -> NDArray[Any]:
        flat = np.empty(size, dtype=self.dtype)
        for entry, part in zip(entries, _slices(entries), strict=True):
            flat[part] = arrays[entry.name].reshape(-1)
        return flat

    def _check(self, arrays: NamedArrays) -> None:
        expected = {entry.name for entry in self.entries}
        if arrays.keys() != expected:
            lacking, extra = expected - arrays.keys(), arrays.keys() - expected
            raise ProtocolError(
                "the model's arrays changed: "
                f"missing {sorted(lacking) or 'none'}, unexpected {sorted(extra) or 'none'}"
            )
        for entry in self.entries:
            array = arrays[entry.name]
            if tuple(array.shape) != entry.shape:
                raise ProtocolError(
                    f"array {entry.name!r}: expected shape {entry.shape}, found {array.shape}"
                )
            if (array.dtype.kind == "f") != (entry.dtype in _FLOATS):
                raise ProtocolError(
                    f"array {entry.name!r}: expected dtype {entry.dtype}, found {array.dtype}"
                )


def _slices(entries: Iterable[Entry]) -> Iterable[slice]:
    start = 0
    for entry in entries:
        yield slice(start, start + entry.size)
        start += entry.size


def _rule(prunable: PrunableRule, arrays: NamedArrays) -> Callable[[str, tuple[int, ...]], bool]:
    if prunable is None:
        return lambda name, shape: len(shape) >= 2
    if callable(prunable):
        return prunable
    patterns = [prunable] if isinstance(prunable, str) else list(prunable)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in arrays):
            raise SettingsError(
                f"prunable={pattern!r} matches none of the model's arrays: {', '.join(arrays)}"
            )
    return lambda name, shape: any(fnmatch.fnmatchcase(name, p) for p in patterns)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value


def _axis(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a whole number, found {value!r}")
    return value
