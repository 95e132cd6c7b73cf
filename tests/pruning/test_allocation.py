"""Counts per layer: exact sums, bounds, and the published rules."""

from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.errors import MaskUpdateError, SettingsError
from caafp_app.pruning.allocation import layer_counts

HAR_CNN = [(64, 9, 5), (64, 64, 5), (32, 2048), (6, 32)]
SIZES = [int(np.prod(shape)) for shape in HAR_CNN]

shapes = st.lists(
    st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple) | st.just((0, 3)),
    min_size=1,
    max_size=6,
)


def test_uniform_rounds_each_layer_half_up():
    assert layer_counts([10, 5, 3, 0], 0.5).tolist() == [5, 3, 2, 0]
    counts = layer_counts(SIZES, 1 - 0.7)
    assert counts.tolist() == [floor(n * (1 - 0.7) + 0.5) for n in SIZES]


def test_no_layer_is_pruned_to_nothing():
    assert layer_counts([1000, 3, 1, 0], 0.01).tolist() == [10, 1, 1, 0]
    assert layer_counts([50, 50], 0.001, "erk", shapes=[(5, 10), (10, 5)]).tolist() == [1, 1]


def test_erk_densities_are_proportional_to_the_published_ratio():
    counts = layer_counts(SIZES, 0.3, "erk", shapes=HAR_CNN)
    ratio = np.array([sum(shape) / np.prod(shape) for shape in HAR_CNN])
    density = counts / SIZES
    free = density < 1
    assert free.tolist() == [True, True, True, False]  # the smallest stays dense
    scale = density[free] / ratio[free]
    # Relative error of a count that is rounded to a whole number.
    np.testing.assert_allclose(scale, scale.mean(), rtol=1 / counts[free].min())


def by_sorting(scores, total):
    """Top-k over all layers with each layer's best set aside."""
    ranked = sorted(
        ((score, layer, i) for layer, part in enumerate(scores) for i, score in enumerate(part)),
        key=lambda entry: (-entry[0], entry[1], entry[2]),
    )
    first = {}
    for entry in ranked:
        first.setdefault(entry[1], entry)
    chosen = list(first.values())
    chosen += [entry for entry in ranked if entry not in chosen][: total - len(chosen)]
    return [sum(entry[1] == layer for entry in chosen) for layer in range(len(scores))]


@settings(deadline=None, max_examples=60)
@given(
    parts=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), min_size=1, max_size=4),
    density=st.floats(0.05, 1.0),
)
def test_global_counts_the_best_of_the_whole_model(parts, density):
    scores = [np.array(part, np.float64) for part in parts]
    sizes = [len(part) for part in parts]
    total = max(floor(sum(sizes) * density + 0.5), len(sizes))
    counts = layer_counts(sizes, density, "global", scores=scores)
    assert counts.tolist() == by_sorting(parts, total)


def test_global_fills_free_places_when_scores_run_out():
    scores = [np.ones(4), np.ones(1)]
    counts = layer_counts([10, 5], 0.8, "global", scores=scores)  # 12 active of 15, 5 scored
    assert counts.sum() == 12
    assert (counts >= [4, 1]).all()
    assert (counts <= [10, 5]).all()
    assert layer_counts([10, 5], 5 / 15, "global", scores=scores).tolist() == [4, 1]
    assert layer_counts([10, 5], 1.0, "global", scores=scores).tolist() == [10, 5]


def test_quota_is_global_between_half_and_twice_uniform():
    rng = np.random.default_rng(0)
    sizes = [400, 200, 300]
    scores = [rng.random(n) * peak for n, peak in zip(sizes, (0.01, 1.0, 0.3), strict=True)]
    free = layer_counts(sizes, 0.2, "global", scores=scores)
    assert free.tolist() == by_sorting(scores, 180)
    assert free[0] < 40  # of 80, 40 and 60 by uniform
    assert free[1] > 80
    assert free[2] <= 30
    held = layer_counts(sizes, 0.2, "quota", scores=scores)
    # 40, 80 and 30 by quotas; the 30 that are left go to the two that may have more.
    assert held.tolist() == [55, 80, 45]
    even = [rng.random(n) for n in sizes]
    alike = layer_counts(sizes, 0.2, "global", scores=even)
    assert layer_counts(sizes, 0.2, "quota", scores=even).tolist() == alike.tolist()


@settings(deadline=None, max_examples=80)
@given(
    shapes=shapes,
    density=st.floats(0.001, 1.0),
    rule=st.sampled_from(["uniform", "erk", "global", "quota"]),
    active=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_bounds_hold_and_sums_are_exact(shapes, density, rule, active, seed):
    sizes = [int(np.prod(shape)) for shape in shapes]
    rng = np.random.default_rng(seed)
    scores = [rng.random(round(active * size)) for size in sizes]
    counts = layer_counts(sizes, density, rule, shapes=shapes, scores=scores)
    least = np.minimum(sizes, 1)
    assert (counts >= least).all()
    assert (counts <= sizes).all()
    if rule != "uniform":
        assert counts.sum() == max(floor(sum(sizes) * density + 0.5), least.sum())


def test_impossible_settings_are_refused():
    with pytest.raises(SettingsError, match="uniform"):
        layer_counts([3], 0.5, "erdos")
    for density in (0.0, 1.1, float("nan")):
        with pytest.raises(SettingsError, match="density"):
            layer_counts([3], density)


def test_missing_or_wrong_shapes_and_scores_are_refused():
    with pytest.raises(MaskUpdateError, match="shape"):
        layer_counts([6], 0.5, "erk")
    with pytest.raises(MaskUpdateError, match="shape"):
        layer_counts([6], 0.5, "erk", shapes=[(5, 1)])
    with pytest.raises(MaskUpdateError, match="scores"):
        layer_counts([6], 0.5, "global")
    with pytest.raises(MaskUpdateError, match="at most"):
        layer_counts([6], 0.5, "global", scores=[np.ones(7)])
