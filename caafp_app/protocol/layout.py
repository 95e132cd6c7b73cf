"""The fixed order in which a model's named arrays become flat vectors, and back.

Prunable arrays are *weights*, one after another in one flat vector; masks and scores are indexed by
it. All other floating arrays (biases, norms) are the *rest*, likewise. *Other* are integer and
boolean buffers, and floating ones with infinity in them, which are carried but never averaged.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.entry import FLOATS, MAX_ELEMENTS, Entry
from caafp_app.protocol.prunable import PrunableRule as PrunableRule
from caafp_app.protocol.prunable import prunable_names

NamedArrays = Mapping[str, NDArray[Any]]

MAX_ENTRIES = 20_000
MAX_JSON_BYTES = 1 << 24


@dataclass
class FlatModel:
    """A model in flat form: its prunable weights [P], the floating rest [R], and other buffers.

    `weights` and `rest` are float32 or float64 in layout order; `other` are integer, boolean and
    complex buffers by name, untouched.
    """

    weights: NDArray[Any]
    rest: NDArray[Any]
    other: dict[str, NDArray[Any]]


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
            entry.check()
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
        spare_below: int = 0,
    ) -> Self:
        """Describe `arrays`, in the order that the flat vectors will have.

        Which may be pruned: see `prunable.prunable_names`.
        """
        carried = {
            name
            for name, array in arrays.items()
            if array.dtype.name in FLOATS and not np.isfinite(array).all()
        }
        picked = prunable_names(
            {name: array for name, array in arrays.items() if name not in carried},
            prunable,
            spare_first=spare_first,
            spare_last=spare_last,
            spare_below=spare_below,
        )
        return cls(
            tuple(
                Entry(name, tuple(array.shape), array.dtype.name, name in picked, name in carried)
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
        return tuple(e for e in self.entries if e.averaged and not e.prunable)

    @cached_property
    def other_entries(self) -> tuple[Entry, ...]:
        """Arrays that are carried but not averaged."""
        return tuple(entry for entry in self.entries if not entry.averaged)

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
        return max(self.weight_dtype, self.rest_dtype)

    @cached_property
    def weight_dtype(self) -> "np.dtype[Any]":
        """Dtype in which prunable weights travel: that of the widest, at least float32."""
        return _widest(self.weight_entries)

    @cached_property
    def rest_dtype(self) -> "np.dtype[Any]":
        """Dtype in which the floating rest travels."""
        return _widest(self.rest_entries)

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the layout's JSON."""
        return hashlib.sha256(self.to_json()).hexdigest()[:16]

    def flatten(self, arrays: NamedArrays) -> FlatModel:
        """Copy named arrays into flat vectors of `dtype`.

        As with FedAvg, any plain numbers will do for a floating array, and axes of length 1 do not
        count. For an integer buffer of no axes floating numbers are rounded, because FedAvg's mean
        of a counter is one. Arrays of a plain list, or for one, go by their place.

        Raises ProtocolError if a name is missing or too many, a shape differs otherwise, or a
        buffer's numbers do not fit its dtype.
        """
        arrays = self._named(arrays)
        self._check(arrays)
        return FlatModel(
            weights=self._join(arrays, self.weight_entries, self.weight_count),
            rest=self._join(arrays, self.rest_entries, self.rest_count),
            other={entry.name: _carried(arrays[entry.name], entry) for entry in self.other_entries},
        )

    def unflatten(self, model: FlatModel, *, copy: bool = True) -> dict[str, NDArray[Any]]:
        """Turn flat vectors into named arrays, in layout order, with their own dtypes.

        Without `copy` they are views of the vectors where their dtypes are the same.
        """
        parts = {
            **self.split(model.weights, self.weight_entries),
            **self.split(model.rest, self.rest_entries),
            **model.other,
        }
        make = np.array if copy else np.asarray
        return {entry.name: make(parts[entry.name], dtype=entry.dtype) for entry in self.entries}

    def split(
        self, flat: NDArray[Any], entries: Sequence[Entry] | None = None
    ) -> dict[str, NDArray[Any]]:
        """View a flat vector of any dtype as named arrays, the prunable ones by default."""
        entries = self.weight_entries if entries is None else entries
        return {
            entry.name: flat[part].reshape(entry.shape)
            for entry, part in zip(entries, _slices(entries), strict=True)
        }

    def to_json(self) -> bytes:
        """Serialise; the inverse of `from_json`."""
        return json.dumps(
            [entry.to_row() for entry in self.entries], separators=(",", ":")
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a layout from bytes of unknown origin; raise ProtocolError if they are none."""
        if len(data) > MAX_JSON_BYTES:
            raise ProtocolError(f"a layout takes at most {MAX_JSON_BYTES} bytes, got {len(data)}")
        try:
            rows = json.loads(data)
            if not isinstance(rows, list):
                raise TypeError("expected a list of arrays")
            entries = tuple(Entry.from_row(row) for row in rows)
        except (ValueError, TypeError, RecursionError) as error:
            raise ProtocolError(f"not a layout: {error}") from error
        return cls(entries)

    def _join(self, arrays: NamedArrays, entries: Sequence[Entry], size: int) -> NDArray[Any]:
        flat = np.empty(size, dtype=self.dtype)
        with np.errstate(over="ignore"):  # a wider array's infinity is refused where it is used
            for entry, part in zip(entries, _slices(entries), strict=True):
                flat[part] = arrays[entry.name].reshape(-1)
        return flat

    def _named(self, arrays: NamedArrays) -> NamedArrays:
        """Give arrays the names of this layout, where ``ArrayRecord(list)`` has numbered either."""
        names = [entry.name for entry in self.entries]
        numbers = [str(place) for place in range(len(names))]
        if len(arrays) != len(names) or numbers not in (names, list(arrays)):
            return arrays
        renamed = dict(zip(names, arrays.values(), strict=True))
        return arrays if arrays.keys() == renamed.keys() else renamed

    def _check(self, arrays: NamedArrays) -> None:
        expected = {entry.name for entry in self.entries}
        if arrays.keys() != expected:
            lacking, extra = expected - arrays.keys(), arrays.keys() - expected
            raise ProtocolError(
                "the model's arrays changed: "
                f"missing {sorted(lacking) or 'none'}, unexpected {sorted(extra) or 'none'}; "
                "return each of the initial arrays by its name, also those that are not trained"
            )
        for entry in self.entries:
            array = arrays[entry.name]
            if _long(array.shape) != _long(entry.shape):
                trees = "" if entry.averaged else ": what grows, such as trees, has no mean"
                raise ProtocolError(
                    f"array {entry.name!r}: expected shape {entry.shape} of the initial arrays, "
                    f"found {array.shape}{trees}"
                )
            if array.dtype.kind == "c" and np.dtype(entry.dtype).kind != "c":
                raise ProtocolError(
                    f"array {entry.name!r}: expected dtype {entry.dtype}, found {array.dtype}"
                )


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes that are not of length 1."""
    return tuple(axis for axis in shape if axis != 1)


def _carried(array: NDArray[Any], entry: Entry) -> NDArray[Any]:
    """Return a buffer in its own dtype and shape, in a copy."""
    if array.dtype.kind == "f" and np.dtype(entry.dtype).kind in "iu" and not entry.shape:
        array = np.rint(array)  # what is a counter in floating numbers is near to one
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(entry.dtype)
    nan = cast.dtype.kind == "f"
    if array.dtype.kind != "c" and not np.array_equal(cast, array, equal_nan=nan):
        raise ProtocolError(
            f"array {entry.name!r}: expected numbers of dtype {entry.dtype}, found {array.dtype} "
            "with one that is none; what is trained has to be of floating numbers in the initial "
            "arrays"
        )
    return cast.reshape(entry.shape)


def _widest(entries: Iterable[Entry]) -> "np.dtype[Any]":
    wide = any(entry.dtype == "float64" for entry in entries)
    return np.dtype(np.float64 if wide else np.float32)


def _slices(entries: Iterable[Entry]) -> Iterable[slice]:
    start = 0
    for entry in entries:
        yield slice(start, start + entry.size)
        start += entry.size
