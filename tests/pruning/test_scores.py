"""Scores against the paper's formulas."""

import numpy as np
import pytest
from caafp_app.pruning.importance import coherence, consistency, importance, magnitude
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.errors import MaskUpdateError
from caafp_app.pruning.segments import segments_of
from caafp_app.vectors.chunks import CHUNK


def test_magnitude_is_relative_to_the_layers_largest():
    np.testing.assert_allclose(magnitude(np.array([1.0, -4.0, 0.0])), [0.25, 1.0, 0.0])
    assert magnitude(np.zeros(3, np.float32)).tolist() == [0.0, 0.0, 0.0]
    assert magnitude(np.empty(0, np.float32)).shape == (0,)


def test_coherence_follows_the_published_formula():
    variance = np.array([0.5, 1.0, 3.0])
    np.testing.assert_allclose(coherence(variance, "paper"), [1.0, 0.75, 0.375])


def test_relative_coherence_spreads_where_the_published_one_saturates():
    variance = 1e-5 * np.array([0.1, 1.0, 10.0])
    assert np.ptp(coherence(variance, "paper")) < 1e-3
    np.testing.assert_allclose(
        coherence(variance, "relative"), np.array([1 / 1.1, 1 / 2, 1 / 11]) * 1.1
    )


def test_relative_coherence_does_not_depend_on_the_scale():
    variance = np.random.default_rng(0).random(50)
    variance[:20] = 0.0  # dead units do not count for the median
    np.testing.assert_allclose(coherence(variance), coherence(variance * 1e-9), rtol=1e-12)
    living = coherence(variance[20:])
    np.testing.assert_allclose(
        coherence(variance)[20:] / living,
        np.full(30, 1 / (1 + variance[20:].min() / np.median(variance[20:]))),
    )


@pytest.mark.parametrize("form", ["relative", "paper"])
def test_equal_variances_are_equally_coherent(form):
    assert coherence(np.zeros(3), form).tolist() == [1.0, 1.0, 1.0]
    assert coherence(np.full(2, 7.0), form).tolist() == [1.0, 1.0]
    assert coherence(np.array([3.0]), form).tolist() == [1.0]
    assert coherence(np.empty(0), form).shape == (0,)


def test_extreme_variances_stay_finite():
    assert coherence(np.array([5e-324, 5e-324, 1e300])).tolist() == [1.0, 1.0, 0.0]


def test_unknown_form_is_refused():
    with pytest.raises(MaskUpdateError, match="relative"):
        coherence(np.zeros(1), "ranks")


def test_consistency_is_kept_within_one():
    assert consistency(np.array([0.0, 0.5, 1.0 + 1e-12])).tolist() == [0.0, 0.5, 1.0]


def test_importance_is_the_weighted_sum_per_layer():
    rng = np.random.default_rng(4)
    weights = rng.standard_normal(7).astype(np.float32)
    variance, agreement = rng.random(7), rng.random(7)
    segments = segments_of([3, 0, 4])
    scores = importance(
        weights, variance, agreement, segments=segments, score_weights=(0.6, 0.1, 0.3), form="paper"
    )
    for layer in (slice(0, 3), slice(3, 7)):
        size = np.abs(weights[layer]).astype(np.float64)
        coherent = 1 / (1 + variance[layer])
        truth = 0.6 * size / size.max() + 0.1 * coherent / coherent.max() + 0.3 * agreement[layer]
        np.testing.assert_allclose(scores[layer], truth, rtol=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 8), min_size=1, max_size=4),
    seed=st.integers(0, 999),
    form=st.sampled_from(["relative", "paper"]),
    score_weights=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 1)),
)
def test_scores_lie_between_zero_and_one(sizes, seed, form, score_weights):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    weights = rng.standard_normal(n).astype(np.float32) * rng.integers(0, 2, n)
    variance = rng.random(n) * 10.0 ** rng.integers(-12, 3, n) * rng.integers(0, 2, n)
    scores = importance(
        weights,
        variance,
        rng.random(n),
        segments=segments_of(sizes),
        score_weights=score_weights,
        form=form,
    )
    assert scores.shape == (n,)
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("score_weights", [(1.0, 1.0), (0.0, 0.0, 0.0), (1.0, -0.1, 0.1)])
def test_unusable_score_weights_are_refused(score_weights):
    with pytest.raises(MaskUpdateError, match="score weights"):
        importance(
            np.ones(2),
            np.ones(2),
            np.ones(2),
            segments=[slice(0, 2)],
            score_weights=score_weights,
        )


def test_wrong_lengths_are_refused():
    with pytest.raises(MaskUpdateError, match="one length"):
        importance(np.ones(2), np.ones(3), np.ones(2), segments=[slice(0, 2)])
    with pytest.raises(MaskUpdateError, match="cover"):
        importance(np.ones(2), np.ones(2), np.ones(2), segments=[slice(0, 1)])


@pytest.mark.parametrize("form", ["relative", "paper"])
def test_large_layers_are_scored_piece_by_piece_alike(form):
    rng = np.random.default_rng(6)
    segments = segments_of([CHUNK + 7, 5, 2 * CHUNK])
    n = segments[-1].stop
    weights = rng.standard_normal(n).astype(np.float32)
    variance, agreement = rng.random(n) * 1e-6, rng.random(n)
    variance[rng.random(n) < 0.2] = 0.0
    parts = [
        0.5 * magnitude(weights[layer])
        + 0.25 * coherence(variance[layer], form)
        + 0.25 * consistency(agreement[layer])
        for layer in segments
    ]
    scores = importance(weights, variance, agreement, segments=segments, form=form)
    np.testing.assert_array_equal(scores, np.minimum(np.concatenate(parts), 1.0))
    found = importance(weights, variance, agreement, segments=segments, form=form, out=variance)
    assert found is variance
    np.testing.assert_array_equal(found, scores)


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.sampled_from([0.0, 1e-9, 3e-6, 0.5, 2.0, 7.5]), min_size=1, max_size=12))
def test_the_scale_is_numpys_median_of_the_positive_variances(values):
    variance = np.array(values)
    positive = variance[variance > 0]
    scale = np.median(positive) if positive.size else 1.0
    truth = 1 / (1 + variance / scale)
    np.testing.assert_array_equal(coherence(variance), truth / truth.max())
