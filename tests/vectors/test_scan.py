"""`peak_of` against plain numpy, and what codecs and sums leave to it."""

import numpy as np
import pytest

from caafp_app.errors import ProtocolError
from caafp_app.pruning.reproducible import ReproducibleSum
from caafp_app.registry import CODECS
from caafp_app.vectors.chunks import CHUNK
from caafp_app.vectors.scan import peak_of


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 7, 2 * CHUNK + 3])
def test_the_peak_is_that_of_numpy_in_every_chunk(dtype, size):
    values = np.random.default_rng(size).standard_normal(size).astype(dtype)
    assert peak_of(values) == float(np.abs(values).max(initial=0))
    values[-1:] = -9.0
    assert peak_of(values) == (9.0 if size else 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, CHUNK + 1, -1])
def test_what_is_not_finite_is_refused_wherever_it_is(bad, place):
    values = np.ones(2 * CHUNK + 3, np.float32)
    values[place] = bad
    with pytest.raises(ProtocolError, match="NaN or infinity"):
        peak_of(values)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_codec_leaves_to_the_scan_only_what_its_decoding_does_not_hide(bad):
    dtype = np.dtype(np.float32)
    sent = CODECS["float32"].decode(np.array([1.0, bad], dtype), 2, dtype, True)
    with pytest.raises(ProtocolError, match="NaN or infinity"):
        peak_of(sent)
    for name, array, scanned in (
        ("float32", dtype, False),
        ("float16", np.dtype(np.float16), False),
        ("float16", np.dtype(np.float16), True),
    ):
        with pytest.raises(ProtocolError, match="NaN or infinity"):
            CODECS[name].decode(np.array([1.0, bad], array), 2, dtype, scanned)


def test_a_known_peak_gives_the_same_sum():
    values = np.random.default_rng(0).standard_normal(9).astype(np.float32)
    plain, told = ReproducibleSum(9, -36), ReproducibleSum(9, -36)
    for total, known in ((plain, None), (told, peak_of(values))):
        total.add(values, 3.0, known)
    for key, array in plain.state_dict().items():
        np.testing.assert_array_equal(told.state_dict()[key], array)
    with pytest.raises(ProtocolError, match="vector of 9 floats"):
        told.add(values[:3], 1.0, peak_of(values))
