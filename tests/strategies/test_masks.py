"""Changes of a cluster's mask, against plain numpy."""

import numpy as np
import pytest

from caafp_app.pruning.evidence import Evidence
from caafp_app.strategies import Pruning
from tests.runner.support import LAYOUT, model_of, sums_of, updates_for


def test_a_mask_update_prunes_by_score_and_grows_by_mean_gradient() -> None:
    model, sent = model_of(0.6), []
    evidence, signs, total = Evidence(model.mask.count), np.zeros(model.mask.count), 0.0
    for seed in range(3):  # of several rounds
        sent = updates_for(model, seed=seed)
        summed = sums_of(model, sent)
        evidence.add_round(summed.update, summed.sums)
        for _, update, weight in sent:
            signs += weight * np.sign(update.values)
            total += weight
    gradient = np.zeros(LAYOUT.weight_count)
    for _, update, weight in sent:
        assert update.gradient is not None
        gradient[update.gradient.index] += weight * update.gradient.value / 60
    assert summed.gradient is not None
    np.testing.assert_allclose(summed.gradient.mean(), gradient, atol=1e-8)

    after = Pruning(score="consistency", regrow=0.25).evolve(model, evidence, gradient, 0.6)
    old, start = model.mask.bits, model.flat.weights
    scored = np.full(old.size, -1.0)
    scored[old] = np.abs(signs) / total
    for part, target, grown in zip(LAYOUT.segments, (8, 5), (2, 1), strict=True):
        new, was = after.mask.bits[part], old[part]
        assert (new.sum(), (new & ~was).sum()) == (target, grown)
        kept, gone = scored[part][new & was], scored[part][was & ~new]
        assert kept.min() >= gone.max(initial=-1)
        slopes = np.abs(gradient[part])
        assert slopes[new & ~was].min() >= slopes[~new & ~was].max(initial=0)
        weights = after.flat.weights[part]
        assert not weights[~(new & was)].any()  # grown ones start at zero
        np.testing.assert_array_equal(weights[new & was], start[part][new & was])


def test_without_gradients_and_replies_the_counts_are_exact_all_the_same() -> None:
    model = model_of(1.0)
    after = Pruning(regrow=0.3).evolve(model, Evidence(model.mask.count), None, 0.5)
    assert [int(after.mask.bits[part].sum()) for part in LAYOUT.segments] == [10, 6]


@pytest.mark.parametrize(
    ("density", "terms", "wanted"),
    [
        (1.0, {}, False),  # nothing is inactive
        (0.6, {}, True),
        (0.6, {"regrow": 0.0}, False),
        (0.6, {"granularity": "filter"}, False),
    ],
)
def test_gradients_are_asked_for_as_many_weights_as_will_grow(
    density: float, terms: dict, wanted: bool
) -> None:
    found = Pruning(**{"regrow": 0.25, **terms}).gradients_wanted(model_of(density), 0.8)
    assert found == ((1, 1) if wanted else ())
