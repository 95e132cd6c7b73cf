"""Layers as slices, flat and packed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.pruning.segments import (
    active_counts,
    packed_segments,
    segments_of,
    sizes_of,
)


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(0, 9), max_size=6), seed=st.integers(0, 999))
def test_packed_slices_hold_each_layers_active_values(sizes, seed):
    segments = segments_of(sizes)
    assert sizes_of(segments).tolist() == sizes
    rng = np.random.default_rng(seed)
    mask = rng.random(sum(sizes)) < 0.5
    values = rng.random(sum(sizes))
    packed = values[mask]
    for flat, short in zip(segments, packed_segments(mask, segments), strict=True):
        np.testing.assert_array_equal(packed[short], values[flat][mask[flat]])
    assert active_counts(mask, segments).sum() == mask.sum()
