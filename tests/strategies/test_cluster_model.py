"""The sums of a round and the model that moves by them, against plain numpy."""

from typing import Any

import numpy as np
import pytest
from caafp_app.strategies.cluster_model import ClusterModel, Update
from caafp_app.strategies.evolution import ScoreRule, evolve, score_weights
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.gradient import SparseGradient
from caafp_app.protocol.layout import FlatModel, Layout
from caafp_app.protocol.mask import Mask

ARRAYS = {
    "a": np.arange(20, dtype=np.float32).reshape(4, 5) - 9.5,
    "bias": np.ones(4, np.float32),
    "b": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "steps": np.array([3], np.int64),
}
LAYOUT = Layout.of(ARRAYS)


def model_of(density: float = 0.5, seed: int = 0) -> ClusterModel:
    bits = np.random.default_rng(seed).random(LAYOUT.weight_count) < density
    return ClusterModel(LAYOUT.flatten(ARRAYS), Mask(LAYOUT, bits))


def updates_for(
    model: ClusterModel, count: int = 5, seed: int = 1
) -> list[tuple[str, Update, float]]:
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        values = rng.normal(size=model.mask.count).astype(np.float32)
        rest = rng.normal(size=LAYOUT.rest_count).astype(np.float32)
        inactive = np.flatnonzero(~model.mask.bits)
        index = np.sort(rng.choice(inactive, min(3, inactive.size), replace=False))
        gradient = SparseGradient(index, rng.normal(size=index.size).astype(np.float32))
        other = {"steps": np.array([10 + k])}
        found.append((f"c{k}", Update(values, rest, other, gradient), float(10 + k)))
    return found


def mean(parts: list[NDArray[Any]], weights: list[float]) -> NDArray[Any]:
    return np.average(np.array(parts, np.float64), axis=0, weights=weights)


def test_pruned_weights_are_zeroed_in_a_copy() -> None:
    flat = LAYOUT.flatten(ARRAYS)
    model = ClusterModel(flat, model_of().mask)
    assert not model.model.weights[~model.mask.bits].any()
    assert flat.weights[~model.mask.bits].any()


@pytest.mark.parametrize("density", [1.0, 0.5])
def test_a_round_moves_the_model_by_the_weighted_mean(density: float) -> None:
    model = model_of(density)
    before = model.model.copy()
    updates = updates_for(model)
    for label, update, weight in updates:
        model.add(label, update, weight)
    assert model.replies == 5
    model.end_round()
    weights = [weight for _, _, weight in updates]
    moved = mean([u.values for _, u, _ in updates], weights)
    np.testing.assert_allclose(
        model.model.weights[model.mask.bits], before.weights[model.mask.bits] + moved, rtol=1e-6
    )
    assert not model.model.weights[~model.mask.bits].any()
    rest = mean([u.rest for _, u, _ in updates], weights)
    np.testing.assert_allclose(model.model.rest, before.rest + rest, rtol=1e-6)
    assert model.model.other["steps"] == 10  # of the first label
    assert model.replies == 0


def test_the_order_of_replies_does_not_show() -> None:
    results = []
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        model = model_of()
        model.collect(statistics=True, gradients=True)
        updates = updates_for(model)
        for k in order:
            model.add(*updates[k])
        model.end_round()
        scores = score_weights(model, ScoreRule())
        results.append(
            (model.model.weights.tobytes(), model.model.other["steps"], scores.tobytes())
        )
    assert results[0] == results[1]


def test_a_round_without_replies_keeps_the_model_to_the_bit() -> None:
    model = model_of()
    before = model.model.copy()
    model.collect(statistics=True, gradients=True)
    model.end_round()
    assert model.model.weights.tobytes() == before.weights.tobytes()
    assert model.model.rest.tobytes() == before.rest.tobytes()
    assert np.isfinite(score_weights(model, ScoreRule())).all()


BAD: dict[str, Any] = {
    "values": {"values": np.nan},
    "rest": {"rest": np.inf},
    "absurd-values": {"values": 1e30},
    "absurd-rest": {"rest": 1e30},
    "gradient": {"gradient": np.float32(np.nan)},
    "absurd-gradient": {"gradient": np.float32(1e30)},
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_update_enters_all_sums_or_none(name: str) -> None:
    def ended(bad: bool) -> tuple[bytes, bytes, bytes, bytes]:
        model = model_of()
        model.collect(statistics=True, gradients=True)
        for k, (label, update, weight) in enumerate(updates_for(model)):
            model.add(label, update, weight)
            if bad and k == 2:
                _, spoiled, _ = updates_for(model, count=1, seed=9)[0]
                for part, value in BAD[name].items():
                    array = spoiled.gradient.value if part == "gradient" else getattr(spoiled, part)
                    array[-1] = value
                with pytest.raises(ProtocolError):
                    model.add("bad", spoiled, 50.0)
                assert model.replies == 3
        model.end_round()
        scores = score_weights(model, ScoreRule())
        change = evolve(model, scores, np.array([6, 4]), 0.3)
        bits = (model.model.weights, model.model.rest, change.mask, scores)
        return tuple(part.tobytes() for part in bits)  # type: ignore[return-value]

    assert ended(bad=True) == ended(bad=False)


def test_the_mean_of_the_last_rounds() -> None:
    model = model_of()
    kept: list[FlatModel] = []
    for seed in range(3):
        for label, update, weight in updates_for(model, seed=seed):
            model.add(label, update, weight)
        model.end_round()
        model.remember()
        kept.append(model.model.copy())
    model.average()
    np.testing.assert_allclose(
        model.model.weights, np.mean([m.weights for m in kept], axis=0), rtol=1e-6
    )
    np.testing.assert_allclose(model.model.rest, np.mean([m.rest for m in kept], axis=0), rtol=1e-6)
    assert not model.model.weights[~model.mask.bits].any()
    after = model.model.weights.copy()
    model.average()  # once only
    np.testing.assert_array_equal(model.model.weights, after)


def test_models_of_an_older_mask_are_not_averaged() -> None:
    model = model_of()
    model.remember()
    evolve(model, np.zeros(model.mask.count), np.array([5, 4]), 0.0)
    after = model.model.weights.copy()
    model.average()
    np.testing.assert_array_equal(model.model.weights, after)
