"""Mask updates: exact counts, disjoint prune and grow, conservation, stable ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.errors import MaskUpdateError
from caafp_app.pruning.segments import active_counts, segments_of
from caafp_app.pruning.select import (
    growth_counts,
    magnitude_mask,
    update_mask,
)


@st.composite
def models(draw):
    sizes = draw(st.lists(st.integers(0, 25), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    segments = segments_of(sizes)
    mask = rng.random(sum(sizes)) < draw(st.sampled_from([0.0, 0.2, 0.7, 1.0]))
    counts = np.array([draw(st.integers(0, size)) for size in sizes], np.int64)
    # Few distinct values: ties everywhere.
    scores = rng.integers(0, 4, int(mask.sum())) / 4
    gradient = rng.integers(-2, 3, mask.size) / 2
    return segments, mask, counts, scores, gradient


def reference(mask, scores, gradient, counts, regrow, segments):
    """The rule in plain Python, by stable sorting."""
    after = mask.copy()
    score_of = dict(zip(np.flatnonzero(mask).tolist(), scores.tolist(), strict=True))
    for segment, count in zip(segments, counts.tolist(), strict=True):
        positions = range(segment.start, segment.stop)
        active = [i for i in positions if mask[i]]
        inactive = [i for i in positions if not mask[i]]
        grown = min(int(regrow * count + 0.5), sum(gradient[i] != 0 for i in inactive))
        keep = count - grown
        if keep > len(active):
            keep, grown = len(active), count - len(active)
        kept = sorted(active, key=lambda i: (-score_of[i], i))[:keep]
        grow = sorted(inactive, key=lambda i: (-abs(gradient[i]), i))[:grown]
        for i in positions:
            after[i] = i in kept or i in grow
    return after


@settings(deadline=None, max_examples=150)
@given(model=models(), regrow=st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.99]))
def test_mask_update_keeps_its_laws(model, regrow):
    segments, mask, counts, scores, gradient = model
    before = mask.copy()
    update = update_mask(mask, scores, gradient, counts, regrow, segments)
    np.testing.assert_array_equal(mask, before)
    np.testing.assert_array_equal(active_counts(update.mask, segments), counts)
    pruned, grown = mask & ~update.mask, ~mask & update.mask
    np.testing.assert_array_equal(active_counts(pruned, segments), update.pruned)
    np.testing.assert_array_equal(active_counts(grown, segments), update.grown)
    assert not (pruned & grown).any()
    np.testing.assert_array_equal(
        counts, active_counts(mask, segments) - update.pruned + update.grown
    )
    np.testing.assert_array_equal(
        update.mask, reference(mask, scores, gradient, counts, regrow, segments)
    )


def test_first_cut_of_a_dense_model_only_prunes():
    mask, segments = np.ones(10, bool), [slice(0, 10)]
    update = update_mask(mask, np.arange(10.0), np.zeros(10), [3], 0.5, segments)
    assert np.flatnonzero(update.mask).tolist() == [7, 8, 9]
    assert (update.pruned.tolist(), update.grown.tolist()) == ([7], [0])


def test_churn_at_constant_density():
    mask = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    gradient = np.array([9, 9, 9, 9, 0.1, -5, 0.2, 5])
    update = update_mask(mask, np.array([4.0, 1, 3, 2]), gradient, [4], 0.5, [slice(0, 8)])
    assert np.flatnonzero(update.mask).tolist() == [0, 2, 5, 7]


def test_ties_go_to_the_lower_index():
    mask = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    update = update_mask(mask, np.ones(4), np.ones(8), [4], 0.25, [slice(0, 8)])
    assert np.flatnonzero(update.mask).tolist() == [0, 1, 2, 4]


def test_no_weight_gives_way_to_one_that_nothing_speaks_for():
    mask = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    scores, whole = np.array([4.0, 3, 2, 1]), [slice(0, 8)]
    untold = update_mask(mask, scores, np.zeros(8), [4], 0.5, whole)
    np.testing.assert_array_equal(untold.mask, mask)
    one = update_mask(mask, scores, np.eye(8)[6], [4], 0.5, whole)
    assert np.flatnonzero(one.mask).tolist() == [0, 1, 2, 6]


def test_zero_gradients_grow_last():
    mask = np.array([1, 0, 0, 0, 0], bool)
    gradient = np.array([0, 0, 0, 1e-30, 0])
    update = update_mask(mask, np.ones(1), gradient, [3], 0.0, [slice(0, 5)])
    assert np.flatnonzero(update.mask).tolist() == [0, 1, 3]


def test_gradients_at_active_weights_are_not_read():
    mask = np.array([1, 1, 0], bool)
    update = update_mask(
        mask, np.array([1.0, 2.0]), np.array([np.nan, np.nan, 1.0]), [2], 0.5, [slice(0, 3)]
    )
    assert np.flatnonzero(update.mask).tolist() == [1, 2]


def test_growth_is_bounded_by_the_inactive_and_fills_up():
    sizes = np.array([10, 10, 10, 10])
    active = np.array([10, 9, 2, 0])
    counts = np.array([8, 8, 6, 1])
    assert growth_counts(active, counts, 0.5, sizes).tolist() == [0, 1, 4, 1]
    assert growth_counts(active, counts, 0.0, sizes).tolist() == [0, 0, 4, 1]
    told = np.array([0, 0, 5, 0])
    assert growth_counts(active, counts, 0.5, sizes, told).tolist() == [0, 0, 4, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"regrow": 1.0},
        {"regrow": -0.1},
        {"counts": [5]},
        {"counts": [-1]},
        {"counts": [1, 1]},
        {"scores": np.ones(1)},
        {"scores": np.array([1.0, np.nan])},
        {"gradient": np.ones(3)},
        {"gradient": np.array([0.0, 0.0, np.nan, 0.0]), "regrow": 0.9},
        {"segments": [slice(0, 3)]},
    ],
)
def test_what_does_not_go_together_is_refused(change):
    arguments = {
        "mask": np.array([1, 1, 0, 0], bool),
        "scores": np.ones(2),
        "gradient": np.zeros(4),
        "counts": [1],
        "regrow": 0.1,
        "segments": [slice(0, 4)],
    }
    update_mask(**arguments)
    with pytest.raises(MaskUpdateError):
        update_mask(**(arguments | change))


def test_magnitude_mask_keeps_each_layers_largest():
    weights = np.array([1.0, -3.0, 2.0, 2.0, 0.5, -0.5, 0.5])
    mask = magnitude_mask(weights, [2, 2], [slice(0, 4), slice(4, 7)])
    assert np.flatnonzero(mask).tolist() == [1, 2, 4, 5]
    with pytest.raises(MaskUpdateError):
        magnitude_mask(weights, [5, 1], [slice(0, 4), slice(4, 7)])
