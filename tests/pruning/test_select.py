"""Mask updates: exact counts, disjoint prune and grow, conservation, stable ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.errors import MaskUpdateError
from caafp_app.pruning.segments import active_counts, segments_of
from caafp_app.pruning.select import growth_counts, update_mask


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
    after = update_mask(mask, scores, gradient, counts, regrow, segments)
    np.testing.assert_array_equal(mask, before)
    np.testing.assert_array_equal(active_counts(after, segments), counts)
    np.testing.assert_array_equal(
        after, reference(mask, scores, gradient, counts, regrow, segments)
    )


@pytest.mark.parametrize(
    ("bits", "scores", "gradient", "count", "regrow", "kept"),
    [
        pytest.param(
            *("11110000", [4, 1, 3, 2], [9, 9, 9, 9, 0.1, -5, 0.2, 5]),
            *(4, 0.5, [0, 2, 5, 7]),
            id="churn at constant density",
        ),
        pytest.param("10000", [1], [0, 0, 0, 1e-30, 0], 3, 0.0, [0, 1, 3], id="zeros grow last"),
        pytest.param(
            "110", [1, 2], [np.nan, np.nan, 1], 2, 0.5, [1, 2], id="gradients of active weights"
        ),
    ],
)
def test_mask_update_of_one_layer(bits, scores, gradient, count, regrow, kept):
    mask = np.array([bit == "1" for bit in bits])
    whole = [slice(0, mask.size)]
    scores, gradient = np.array(scores, np.float64), np.array(gradient, np.float64)
    after = update_mask(mask, scores, gradient, [count], regrow, whole)
    assert np.flatnonzero(after).tolist() == kept


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
