"""Which of a model's prunable weights are active: packed bits, digest, density.

Sparsity is read from masks, never from values: an active weight may be exactly zero.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.layout import Layout

_HASHED_AT_ONCE = 1 << 16

FREE_WEIGHTS = 1 << 24
"""Masks of no more weights than this may leave out as many as they like."""
MOST_PER_ACTIVE = 32
"""A larger mask has at least one active weight in so many. An empty mask of a billion weights is
125 MB; what it stands for takes 5 GB of memory, and its sender nothing."""

_BITS_SET = np.array([value.bit_count() for value in range(256)], dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Mask:
    """An immutable boolean vector over a layout's flat weights.

    Attributes
    ----------
    layout : Layout
    bits : ndarray of bool [P]
        True where a weight is active; read-only. A writable array is copied.
    """

    layout: Layout
    bits: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.bits.dtype != np.bool_ or self.bits.shape != (self.layout.weight_count,):
            raise ProtocolError(
                f"a mask for this model is bool [{self.layout.weight_count}], "
                f"found {self.bits.dtype} {list(self.bits.shape)}"
            )
        if self.bits.flags.writeable:
            bits = self.bits.copy()
            bits.setflags(write=False)
            object.__setattr__(self, "bits", bits)

    @classmethod
    def full(cls, layout: Layout) -> Self:
        """Return the mask of a dense model; it takes no memory, whatever the layout claims."""
        mask = cls(layout, np.broadcast_to(np.True_, layout.weight_count))
        vars(mask)["count"] = layout.weight_count  # counting one repeated bit is slow
        return mask

    @cached_property
    def count(self) -> int:
        """Number of active weights."""
        return int(np.count_nonzero(self.bits))

    @property
    def is_full(self) -> bool:
        """Whether no weight is pruned."""
        return self.count == self.bits.size

    @property
    def density(self) -> float:
        """Active share of the prunable weights; 1.0 for a model that has none."""
        return self.count / self.bits.size if self.bits.size else 1.0

    @cached_property
    def active(self) -> NDArray[np.intp]:
        """Positions of the active weights, ascending [count]."""
        return np.flatnonzero(self.bits)

    @cached_property
    def inactive(self) -> NDArray[np.intp]:
        """Positions of the pruned weights, ascending [P - count]."""
        return np.flatnonzero(~self.bits)

    @cached_property
    def packed(self) -> NDArray[np.uint8]:
        """Bits as uint8 [ceil(P / 8)], least significant bit first, unused bits zero."""
        return np.packbits(self.bits, bitorder="little")

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of SHA-256 over the layout's digest and the packed bits."""
        if self.is_full:
            return _full_digest(self.layout.digest, self.bits.size)
        return hashlib.sha256(self.layout.digest.encode() + self.packed.tobytes()).hexdigest()[:16]

    @classmethod
    def unpack(cls, layout: Layout, packed: NDArray[Any]) -> Self:
        """Read `packed` bits of unknown origin.

        Raises ProtocolError if dtype or length are not those of `layout`, an unused bit is set, or
        there are too few active weights for the memory that the mask takes: see `MOST_PER_ACTIVE`.
        """
        size = layout.weight_count
        if packed.dtype != np.uint8 or packed.shape != (-(-size // 8),):
            raise ProtocolError(
                f"packed mask: expected uint8 [{-(-size // 8)}], "
                f"found {packed.dtype} {list(packed.shape)}"
            )
        if size % 8 and packed[-1] >> (size % 8):
            raise ProtocolError("packed mask: bits are set beyond the last weight")
        if size > FREE_WEIGHTS and size > MOST_PER_ACTIVE * (active := _count(packed)):
            raise ProtocolError(
                f"packed mask: expected at least one active weight in {MOST_PER_ACTIVE} of a model "
                f"of more than {FREE_WEIGHTS} weights, found {active} of {size}"
            )
        bits = np.unpackbits(packed, count=size, bitorder="little").view(np.bool_)
        bits.setflags(write=False)
        return cls(layout, bits)

    def by_layer(self) -> dict[str, NDArray[np.bool_]]:
        """Return read-only views of the bits by array name and shape."""
        return self.layout.split(self.bits)

    def select(self, weights: NDArray[Any]) -> NDArray[Any]:
        """Take the active values [count] of a flat vector [P], as a copy.

        A full mask returns the vector itself: do not write to it.
        """
        return weights if self.is_full else weights.take(self.active)

    def scatter(self, values: NDArray[Any]) -> NDArray[Any]:
        """Put active values [count] back into [P], of their dtype, else zeros.

        A full mask returns the values themselves: do not write to them.
        """
        if self.is_full:
            return values
        weights = np.zeros(self.bits.size, dtype=values.dtype)
        weights[self.active] = values
        return weights

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def _count(packed: NDArray[np.uint8]) -> int:
    """Count the bits that are set, in little memory."""
    parts = range(0, packed.size, _HASHED_AT_ONCE)
    return sum(
        int(_BITS_SET[packed[at : at + _HASHED_AT_ONCE]].sum(dtype=np.int64)) for at in parts
    )


@lru_cache(maxsize=64)
def _full_digest(layout_digest: str, size: int) -> str:
    """Digest of the full mask, once per layout and without making its bits."""
    whole, bits = divmod(size, 8)
    sha = hashlib.sha256(layout_digest.encode())
    piece = b"\xff" * _HASHED_AT_ONCE
    for start in range(0, whole, _HASHED_AT_ONCE):
        sha.update(piece[: whole - start])
    if bits:
        sha.update(bytes([(1 << bits) - 1]))
    return sha.hexdigest()[:16]
