"""How a flat vector of floats becomes an array on the wire, and back.

Each codec states its byte law. Decoding trusts nothing: dtype, length and scales are checked
before a value is used. Encoding is deterministic given its generator: two runs send the same bytes.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError, SettingsError
from caafp_app.protocol.half import from_half, to_half
from caafp_app.protocol.quantise import Quantised, blocks, dequantise, quantise
from caafp_app.registry import CODECS
from caafp_app.vectors.scan import peak_of

_LEVELS = 127


class Codec(ABC):
    """A pair of functions between float [n] and what travels."""

    @abstractmethod
    def encode(self, values: NDArray[Any], rng: np.random.Generator | None = None) -> NDArray[Any]:
        """Encode finite floats; `rng` decides stochastic rounding where the codec rounds."""

    @abstractmethod
    def decode(
        self, data: NDArray[Any], size: int, dtype: "np.dtype[Any]", *, scanned: bool = False
    ) -> NDArray[Any]:
        """Decode what `encode` made, of unknown origin, to a float vector [size] of `dtype`.

        `scanned`: the caller refuses NaN and infinity in the result by `vectors.scan`, so that a
        codec need not look for them. One whose decoding would hide them looks all the same.

        Raises ProtocolError if `data` cannot be the encoding of `size` finite values.
        """


class ExactCodec(Codec):
    """Values as they are. Bytes: 4 n (8 n for float64 models)."""

    def encode(self, values: NDArray[Any], rng: np.random.Generator | None = None) -> NDArray[Any]:
        """Return the values, not a copy."""
        return values

    def decode(
        self, data: NDArray[Any], size: int, dtype: "np.dtype[Any]", *, scanned: bool = False
    ) -> NDArray[Any]:
        """Return the data, not a copy."""
        _expect(data, dtype, size)
        if not scanned:
            _require_finite(data)
        return data


class Float16Codec(Codec):
    """Half precision, nearest. Bytes: 2 n.

    The error is at most 2**-11 of a value above 6e-5, and at most 3e-8 below; a value beyond
    65504 is sent as that.
    """

    def encode(self, values: NDArray[Any], rng: np.random.Generator | None = None) -> NDArray[Any]:
        """Round to float16; what is beyond its range saturates."""
        with np.errstate(over="ignore"):
            source = values.astype(np.float32, copy=False)
        _require_finite(source)
        return to_half(source)

    def decode(
        self, data: NDArray[Any], size: int, dtype: "np.dtype[Any]", *, scanned: bool = False
    ) -> NDArray[Any]:
        """Widen to `dtype`."""
        _expect(data, np.dtype(np.float16), size)
        if size and (data.view(np.uint16) & np.uint16(0x7FFF)).max() >= 0x7C00:
            raise _not_finite()
        return from_half(data, dtype)


class Int8Codec(Codec):
    """8 bits a value, in blocks of 256 that share a scale, rounded stochastically.

    Bytes: n + 2 ceil(n / 256) + 4. A step is max|block| / 127, in blocks 1e-7 times smaller than
    the largest that of such a block. The error is below one step; with a generator it is 0 on
    average, E[decode(encode(x))] = x; without one it is at most half a step.
    """

    def encode(self, values: NDArray[Any], rng: np.random.Generator | None = None) -> NDArray[Any]:
        """Return uint8: array scale, block scales, then the values."""
        made = quantise(values, _LEVELS, rng)
        parts = (made.scale, made.shares, made.codes)
        return np.concatenate([part.view(np.uint8) for part in parts])

    def decode(
        self, data: NDArray[Any], size: int, dtype: "np.dtype[Any]", *, scanned: bool = False
    ) -> NDArray[Any]:
        """Multiply each value by its block's scale."""
        _expect(data, np.dtype(np.uint8), size + 2 * blocks(size) + 4)
        scale, shares, codes = np.split(data, [4, 4 + 2 * blocks(size)])
        # Copied, because what comes off the wire need not be aligned.
        made = Quantised(
            scale.copy().view(np.float32), shares.copy().view(np.float16), codes.view(np.int8)
        )
        return dequantise(made, _LEVELS, dtype)


FLOAT32, FLOAT16, INT8 = ExactCodec(), Float16Codec(), Int8Codec()


def codec_for(name: str) -> Codec:
    """Return the codec of a name that settings and messages use.

    Raises SettingsError if there is none of that name. A path is none: what a message names is
    never imported.
    """
    if name not in CODECS:
        known = ", ".join(CODECS)
        raise SettingsError(f"unknown value dtype {name!r}; expected one of {known}")
    codec: Codec = CODECS[name]
    return codec


def _expect(data: NDArray[Any], dtype: "np.dtype[Any]", size: int) -> None:
    if data.dtype != dtype or data.shape != (size,):
        raise ProtocolError(
            f"values: expected {dtype} [{size}], found {data.dtype} {list(data.shape)}"
        )


def _require_finite(values: NDArray[Any]) -> None:
    try:
        peak_of(values)
    except ProtocolError:
        raise _not_finite() from None


def _not_finite() -> ProtocolError:
    return ProtocolError("values: found NaN or infinity where finite numbers were expected")
