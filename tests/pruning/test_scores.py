"""Scores against the paper's formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.errors import MaskUpdateError
from caafp_app.pruning.evidence import Evidence
from caafp_app.pruning.means import WeightedMean
from caafp_app.pruning.scores import Score, curvature, importance, sums_needed
from caafp_app.pruning.segments import segments_of
from caafp_app.pruning.sums import accumulate, make_sums
from caafp_app.vectors.chunks import CHUNK

THIRDS = (("magnitude", 0.6), ("coherence-paper", 0.1), ("consistency", 0.3))


class Known(Evidence):
    """Evidence of which the figures are chosen."""

    def __init__(self, variance, agreement=None):
        super().__init__(len(variance))
        self.known = np.asarray(variance, float), np.asarray(agreement, float)

    def variance(self, part):
        return self.known[0][part].copy()

    def sign_agreement(self, part):
        return self.known[1][part].copy()


def alone(name, weights, variance=None, agreement=None, segments=None):
    """One score of one layer."""
    size = len(weights)
    zeros = np.zeros(size)
    evidence = Known(
        zeros if variance is None else variance, zeros if agreement is None else agreement
    )
    return importance(np.asarray(weights), evidence, segments or [slice(0, size)], [(name, 3.0)])


def coherence(variance, form="coherence"):
    return alone(form, np.zeros(len(variance)), variance)


def test_magnitude_is_relative_to_the_layers_largest():
    np.testing.assert_allclose(alone("magnitude", [1.0, -4.0, 0.0]), [0.25, 1.0, 0.0])
    assert alone("magnitude", np.zeros(3, np.float32)).tolist() == [0.0, 0.0, 0.0]
    assert alone("magnitude", np.empty(0, np.float32)).shape == (0,)


def test_coherence_as_published():
    found = coherence([0.5, 1.0, 3.0], "coherence-paper")
    np.testing.assert_allclose(found, [1.0, 0.75, 0.375])


def test_relative_coherence_spreads_where_the_published_one_saturates():
    variance = 1e-5 * np.array([0.1, 1.0, 10.0])
    assert np.ptp(coherence(variance, "coherence-paper")) < 1e-3
    np.testing.assert_allclose(coherence(variance), np.array([1 / 1.1, 1 / 2, 1 / 11]) * 1.1)


@pytest.mark.parametrize("form", ["coherence", "coherence-paper"])
@pytest.mark.parametrize("variance", [[0.0] * 3, [7.0] * 2, [3.0], []])
def test_equal_variances_are_equally_coherent(form, variance):
    assert coherence(variance, form).tolist() == [1.0] * len(variance)


def test_extreme_variances_stay_finite():
    assert coherence([5e-324, 5e-324, 1e300]).tolist() == [1.0, 1.0, 0.0]


def test_consistency_is_kept_within_one():
    found = alone("consistency", np.zeros(3), agreement=[0.0, 0.5, 1.0 + 1e-12])
    assert found.tolist() == [0.0, 0.5, 1.0]


def test_curvature_is_the_change_of_loss_without_the_weight():
    rng = np.random.default_rng(5)
    w = rng.normal(size=9).astype(np.float32)
    rounds = [[(rng.normal(size=9) * 1e-3, weight) for weight in (3, 5)] for _ in range(2)]
    evidence = Evidence(9)
    for replies in rounds:
        mean, sums = WeightedMean(9), make_sums(curvature.needs, 9)
        for update, weight in replies:
            accumulate(update, weight, mean, tuple(sums.values()))
        evidence.add_round(mean, sums)
    found = importance(w, evidence, segments_of([4, 5]), [("curvature", 1.0)])
    replies = [reply for replies in rounds for reply in replies]
    g = sum(weight * u for u, weight in replies) / 16
    fisher = sum(weight * u**2 for u, weight in replies) / 16
    for layer in (slice(0, 4), slice(4, 9)):
        unit = fisher[layer].mean()
        truth = np.abs(g * w)[layer] / np.sqrt(unit) + (fisher * w**2)[layer] / unit / 2
        np.testing.assert_allclose(found[layer], truth / truth.max(), rtol=1e-4)


def test_without_replies_curvature_orders_as_magnitude_does():
    w = np.array([0.5, -2.0, 1.0, 0.0])
    found = importance(w, Evidence(4), [slice(0, 4)], [("curvature", 1.0)])
    np.testing.assert_allclose(found, [1 / 16, 1, 1 / 4, 0])


@given(
    sizes=st.lists(st.integers(0, 8), min_size=1, max_size=4),
    seed=st.integers(0, 999),
    form=st.sampled_from(["coherence", "coherence-paper"]),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 1)),
)
def test_scores_lie_between_zero_and_one(sizes, seed, form, shares):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    weights = rng.standard_normal(n).astype(np.float32) * rng.integers(0, 2, n)
    variance = rng.random(n) * 10.0 ** rng.integers(-12, 3, n) * rng.integers(0, 2, n)
    mix = list(zip(("magnitude", form, "consistency"), shares, strict=True))
    scores = importance(weights, Known(variance, rng.random(n)), segments_of(sizes), mix)
    assert scores.shape == (n,)
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize(
    "mix", [[], [("magnitude", 0.0)], [("magnitude", 1.0), ("consistency", -0.1)]]
)
def test_unusable_shares_are_refused(mix):
    with pytest.raises(MaskUpdateError, match="shares of scores"):
        importance(np.ones(2), Evidence(2), [slice(0, 2)], mix)


def test_wrong_lengths_are_refused():
    with pytest.raises(MaskUpdateError, match="expected weights of shape"):
        importance(np.ones(2), Evidence(3), [slice(0, 2)], [("magnitude", 1.0)])


def test_a_mix_needs_the_sums_of_the_scores_that_count():
    assert sums_needed([("magnitude", 1.0)]) == frozenset()
    assert sums_needed([("magnitude", 1.0), ("coherence", 0.0)]) == frozenset()
    assert sums_needed(THIRDS) == {"squares", "signs"}


GAIN = Score(
    needs=("signs",),
    of=lambda weights, evidence, layer: (
        lambda part: np.abs(weights[part]) * evidence.sign_agreement(part)
    ),
)


def test_a_score_of_another_package_is_a_function_of_the_evidence():
    name = f"{__name__}:GAIN"
    assert sums_needed([(name, 1.0)]) == {"signs"}
    assert alone(name, [0.5, -0.5], agreement=[1.0, 0.5]).tolist() == [0.5, 0.25]


@pytest.mark.parametrize("form", ["coherence", "coherence-paper"])
def test_large_layers_are_scored_piece_by_piece_alike(form):
    rng = np.random.default_rng(6)
    segments = segments_of([CHUNK + 7, 5, 2 * CHUNK])
    n = segments[-1].stop
    weights = rng.standard_normal(n).astype(np.float32)
    variance, agreement = rng.random(n) * 1e-6, rng.random(n)
    variance[rng.random(n) < 0.2] = 0.0
    mix = [("magnitude", 0.5), (form, 0.25), ("consistency", 0.25)]
    parts = []
    for layer in segments:
        spread = variance[layer]
        scale = 1.0 if form == "coherence-paper" else np.median(spread[spread > 0])
        agreed = 1 / (1 + spread / scale)
        size = np.abs(weights[layer]).astype(np.float64)
        parts.append(
            0.5 * (size / size.max()) + 0.25 * (agreed / agreed.max()) + 0.25 * agreement[layer]
        )
    scores = importance(weights, Known(variance, agreement), segments, mix)
    np.testing.assert_array_equal(scores, np.minimum(np.concatenate(parts), 1.0))


@given(values=st.lists(st.sampled_from([0.0, 1e-9, 3e-6, 0.5, 2.0, 7.5]), min_size=1, max_size=12))
def test_the_scale_is_numpys_median_of_the_positive_variances(values):
    variance = np.array(values)
    positive = variance[variance > 0]
    scale = np.median(positive) if positive.size else 1.0
    truth = 1 / (1 + variance / scale)
    np.testing.assert_array_equal(coherence(variance), truth / truth.max())
