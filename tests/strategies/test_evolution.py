"""Changes of a cluster's mask, against plain numpy."""

import numpy as np
from caafp_app.strategies.cluster_model import Update
from caafp_app.strategies.evolution import ScoreRule, evolve, score_weights

from tests.strategies.test_cluster_model import LAYOUT, model_of, updates_for


def test_statistics_run_over_rounds_and_start_anew_with_a_mask() -> None:
    model = model_of()
    rng = np.random.default_rng(3)
    signs, weights = np.zeros(model.mask.count), 0.0
    for _ in range(3):
        model.collect(statistics=True, gradients=False)
        for k in range(4):
            values = rng.normal(size=model.mask.count).astype(np.float32)
            update = Update(values, np.zeros(4, np.float32), {})
            model.add(f"c{k}", update, 2.0 + k)
            signs += (2.0 + k) * np.sign(values)
            weights += 2.0 + k
        model.end_round()
    only_signs = score_weights(model, ScoreRule(0, 0, 1))
    np.testing.assert_allclose(only_signs, np.abs(signs) / weights, atol=1e-12)
    evolve(model, only_signs, np.array([5, 4]), 0.0)
    assert model.mask.count == 9
    assert model.statistics is None
    assert not score_weights(model, ScoreRule(0, 0, 1)).any()


def test_a_mask_update_prunes_by_score_and_grows_by_mean_gradient() -> None:
    model = model_of(0.6)
    model.collect(statistics=False, gradients=True)
    updates = updates_for(model)
    gradient = np.zeros(LAYOUT.weight_count)
    for label, update, weight in updates:
        model.add(label, update, weight)
        assert update.gradient is not None
        gradient[update.gradient.index] += weight * update.gradient.value
    model.end_round()
    old, before = model.mask.bits.copy(), model.model.weights.copy()
    scores = np.random.default_rng(4).random(model.mask.count)
    counts = np.array([8, 5])
    change = evolve(model, scores, counts, 0.25)
    grown = np.array([2, 1])
    np.testing.assert_array_equal(change.grown, grown)
    for layer, part in enumerate(LAYOUT.segments):
        new, was = model.mask.bits[part], old[part]
        assert new.sum() == counts[layer]
        scored = np.full(old.size, -1.0)
        scored[old] = scores
        kept = np.sort(scored[part][new & was])
        assert kept[0] >= np.delete(scored[part], np.flatnonzero(new)).max()
        slopes = np.abs(gradient[part])
        assert slopes[new & ~was].min() >= slopes[~new & ~was].max()
        weights = model.model.weights[part]
        assert not weights[new & ~was].any()  # grown ones start at zero
        np.testing.assert_array_equal(weights[new & was], before[part][new & was])
        assert not weights[~new].any()
