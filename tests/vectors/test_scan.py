"""`scan` against plain numpy."""

import math

import numpy as np
import pytest

from caafp_app.errors import ProtocolError
from caafp_app.protocol.codec import CODECS
from caafp_app.pruning.reproducible import ReproducibleSum
from caafp_app.vectors.chunks import CHUNK
from caafp_app.vectors.scan import peak_of, scan


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 7, 2 * CHUNK + 3])
def test_peaks_and_norm_are_those_of_numpy(dtype, size):
    values = np.random.default_rng(size).standard_normal(size).astype(dtype)
    rest = np.array([3.0, -4.0], dtype)
    found = scan(values, rest)
    assert found.peaks == (float(np.abs(values).max(initial=0)), 4.0)
    assert found.peak == max(found.peaks)
    assert peak_of(values) == found.peaks[0]
    truth = math.sqrt(float(np.square(values.astype(np.float64)).sum()) + 25.0)
    assert found.norm == pytest.approx(truth, rel=1e-5 if dtype == np.float32 else 1e-12)


def test_nothing_to_scan_has_length_zero():
    assert scan() == ((), 0.0)
    assert scan().peak == 0.0


def test_every_chunk_is_looked_at():
    values = np.zeros(2 * CHUNK + 3, np.float32)
    values[-1] = -4.0
    assert scan(values) == ((4.0,), 4.0)
    assert peak_of(values) == 4.0


def test_squares_beyond_float32_give_an_infinite_norm_of_finite_values():
    assert scan(np.array([1e30], np.float32)).norm == math.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, CHUNK + 1, -1])
def test_what_is_not_finite_is_refused_wherever_it_is(bad, place):
    values = np.ones(2 * CHUNK + 3, np.float32)
    values[place] = bad
    for look in (scan, peak_of, lambda vector: scan(np.ones(2, np.float32), vector)):
        with pytest.raises(ProtocolError, match="NaN or infinity"):
            look(values)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_codec_leaves_to_the_scan_only_what_its_decoding_does_not_hide(bad):
    dtype = np.dtype(np.float32)
    sent = CODECS["float32"].decode(np.array([1.0, bad], dtype), 2, dtype, True)
    with pytest.raises(ProtocolError, match="NaN or infinity"):
        scan(sent)
    for name, array in (("float32", dtype), ("float16", np.dtype(np.float16))):
        with pytest.raises(ProtocolError, match="NaN or infinity"):
            CODECS[name].decode(np.array([1.0, bad], array), 2, dtype, False)
    with pytest.raises(ProtocolError, match="NaN or infinity"):
        CODECS["float16"].decode(np.array([1.0, bad], np.float16), 2, dtype, True)


def test_a_known_peak_gives_the_same_sum():
    values = np.random.default_rng(0).standard_normal(9).astype(np.float32)
    plain, told = ReproducibleSum(9, -36), ReproducibleSum(9, -36)
    peak = scan(values).peak
    index = np.arange(9)
    for total, known in ((plain, None), (told, peak)):
        total.add(values, 3.0, known)
        total.add_at(index, values, 2.0, known)
    for key, array in plain.state_dict().items():
        np.testing.assert_array_equal(told.state_dict()[key], array)
    with pytest.raises(ProtocolError, match="vector of 9 floats"):
        told.add(values[:3], 1.0, peak)
