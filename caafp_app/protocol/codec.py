"""How a flat vector of floats becomes an array on the wire, and back.

Each codec states its byte law. Decoding trusts nothing: dtype, length and scales are checked
before a value is used. Encoding is deterministic given its generator: two runs send the same bytes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError, SettingsError
from caafp_app.protocol.half import from_half, to_half
from caafp_app.registry import CODECS
from caafp_app.vectors.scan import peak_of


class Codec(NamedTuple):
    """A pair of functions between float [n] and what travels.

    Attributes
    ----------
    encode : callable
        ``encode(values, rng)`` of finite floats; `rng` decides stochastic rounding, None: none.
    decode : callable
        ``decode(data, size, dtype, scanned)``: float [size] of `dtype` from data of unknown origin.
        `scanned`: the caller refuses NaN and infinity in the result by `vectors.scan`; a codec
        whose decoding would hide them looks all the same. Raises ProtocolError if `data` cannot be
        the encoding of `size` finite values.
    """

    encode: Callable[[NDArray[Any], np.random.Generator | None], NDArray[Any]]
    decode: Callable[[NDArray[Any], int, "np.dtype[Any]", bool], NDArray[Any]]


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


def expect(data: NDArray[Any], dtype: "np.dtype[Any]", size: int) -> None:
    """Refuse what is no vector [size] of this dtype."""
    if data.dtype != dtype or data.shape != (size,):
        raise ProtocolError(
            f"values: expected {dtype} [{size}], found {data.dtype} {list(data.shape)}"
        )


def _decode_exact(
    data: NDArray[Any], size: int, dtype: "np.dtype[Any]", scanned: bool
) -> NDArray[Any]:
    expect(data, dtype, size)
    if not scanned:
        _require_finite(data)
    return data


def _encode_half(values: NDArray[Any], rng: np.random.Generator | None) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        source = values.astype(np.float32, copy=False)
    _require_finite(source)
    return to_half(source)


def _decode_half(
    data: NDArray[Any], size: int, dtype: "np.dtype[Any]", scanned: bool
) -> NDArray[Any]:
    expect(data, np.dtype(np.float16), size)
    if size and (data.view(np.uint16) & np.uint16(0x7FFF)).max() >= 0x7C00:
        raise _not_finite()
    return from_half(data, dtype)


def _require_finite(values: NDArray[Any]) -> None:
    try:
        peak_of(values)
    except ProtocolError:
        raise _not_finite() from None


def _not_finite() -> ProtocolError:
    return ProtocolError("values: found NaN or infinity where finite numbers were expected")


FLOAT32 = Codec(lambda values, rng: values, _decode_exact)
"""Values as they are, not copied. Bytes: 4 n (8 n if an array is float64)."""

FLOAT16 = Codec(_encode_half, _decode_half)
"""Half precision, nearest. Bytes: 2 n. The error is at most 2**-11 of a value above 6e-5, and at
most 3e-8 below; a value beyond 65504 is sent as that."""
