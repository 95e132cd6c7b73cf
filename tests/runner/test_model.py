"""Models and mean updates as values, against loops in numpy."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.runner.model import MeanUpdate, SparseModel, combine, mean_model

ARRAYS: dict[str, NDArray[Any]] = {
    "a": np.zeros((3, 4), np.float32),
    "bias": np.zeros(4, np.float32),
    "b": np.zeros((2, 5), np.float32),
    "steps": np.zeros((), np.int64),
    "flags": np.zeros((2, 3), np.bool_),
    "table": np.zeros(3, np.uint16),
    "phase": np.zeros((2, 1), np.complex64),
    "none": np.zeros((0, 2), np.int8),
}
LAYOUT = Layout.of(ARRAYS)
SIZE, REST = LAYOUT.weight_count, LAYOUT.rest_count

Bits = NDArray[np.bool_]
seeds = st.integers(0, 2**32 - 1)
counts = st.integers(1, 5)


def nested(count: int, rng: np.random.Generator) -> list[Bits]:
    order, sizes = rng.permutation(SIZE), np.sort(rng.integers(1, SIZE + 1, count))
    return [np.isin(np.arange(SIZE), order[:size]) for size in sizes]


def disjoint(count: int, rng: np.random.Generator) -> list[Bits]:
    owner = rng.integers(0, count + 1, SIZE)  # the last one's weights are nobody's
    return [owner == k for k in range(count)]


def equal(count: int, rng: np.random.Generator) -> list[Bits]:
    return [rng.random(SIZE) < rng.random()] * count


def free(count: int, rng: np.random.Generator) -> list[Bits]:
    return [rng.random(SIZE) < rng.random() for _ in range(count)]


shapes = st.sampled_from([nested, disjoint, equal, free])


def update_of(bits: Bits, rng: np.random.Generator, weight: float = 1.0) -> MeanUpdate:
    mask = Mask(LAYOUT, bits)
    return MeanUpdate(mask, rng.normal(size=mask.count), rng.normal(size=REST), weight)


def model_of(bits: Bits, rng: np.random.Generator, whole: int = -1) -> SparseModel:
    arrays = {
        name: rng.normal(size=array.shape).astype(array.dtype)
        if array.dtype == np.float32
        else rng.integers(0, 2, array.shape).astype(array.dtype)
        for name, array in ARRAYS.items()
    }
    return SparseModel(LAYOUT.flatten(arrays), Mask(LAYOUT, bits), whole)


def dense(update: MeanUpdate) -> NDArray[np.float64]:
    found = np.zeros(SIZE)
    found[update.mask.bits] = update.values
    return found


def by_law(updates: Sequence[MeanUpdate]) -> NDArray[np.float64]:
    """Position by position, the mean over those that have it."""
    found = np.zeros(SIZE)
    for i in range(SIZE):
        having = [u for u in updates if u.mask.bits[i]]
        if having:
            values = [dense(u)[i] for u in having]
            found[i] = np.average(values, weights=[u.weight for u in having])
    return found


@given(shape=shapes, count=counts, seed=seeds)
def test_combined_updates_follow_the_law(
    shape: Callable[[int, np.random.Generator], list[Bits]], count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    updates = [update_of(bits, rng, float(rng.integers(1, 500))) for bits in shape(count, rng)]
    found = combine(updates)
    np.testing.assert_allclose(dense(found), by_law(updates), atol=1e-12)
    weights = [update.weight for update in updates]
    np.testing.assert_allclose(
        found.rest, np.average([u.rest for u in updates], axis=0, weights=weights), atol=1e-12
    )
    assert found.weight == sum(weights)
    union = np.logical_or.reduce([update.mask.bits for update in updates])
    np.testing.assert_array_equal(found.mask.bits, union)


def test_one_update_combined_is_that_update_and_buffers_are_the_first_ones() -> None:
    rng = np.random.default_rng(1)
    bits = rng.random(SIZE) < 0.5
    one, other = (
        replace(update_of(bits, rng, weight), other={"steps": np.array(weight)})
        for weight in (1.0, 3.0)
    )
    assert combine([one]) is one
    assert combine([one, other]).other["steps"] == 1.0


@given(seed=seeds)
def test_an_update_on_another_mask_is_the_same_where_both_have_a_weight(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mine, its = free(2, rng)
    update, mask = update_of(mine, rng), Mask(LAYOUT, its)
    moved = update.on(mask)
    assert moved.mask == mask
    np.testing.assert_array_equal(dense(moved), np.where(its, dense(update), 0))
    assert moved.rest is update.rest
    assert update.on(update.mask) is update


@given(seed=seeds, share=st.floats(0, 1))
def test_updates_add_up_inside_the_first_ones_mask(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    one, other = (update_of(bits, rng, 7.0) for bits in free(2, rng))
    found = one.times(1 - share).plus(other, share)
    expected = np.where(one.mask.bits, (1 - share) * dense(one) + share * dense(other), 0)
    np.testing.assert_allclose(dense(found), expected, atol=1e-12)
    np.testing.assert_allclose(found.rest, (1 - share) * one.rest + share * other.rest, atol=1e-12)
    assert (found.mask, found.weight) == (one.mask, 7.0)


@given(seed=seeds)
def test_a_model_is_moved_where_it_has_weights_and_stays_a_value(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mine, its = free(2, rng)
    model, update = model_of(mine, rng), update_of(its, rng)
    before = model.flat.weights.copy()
    moved = model.moved(update)
    step = np.where(mine, dense(update), 0)
    np.testing.assert_array_equal(moved.flat.weights, (before + step).astype(np.float32))
    np.testing.assert_array_equal(moved.flat.rest, (model.flat.rest + update.rest).astype("f4"))
    np.testing.assert_array_equal(model.flat.weights, before)
    for array in (moved.flat.weights, moved.flat.rest):
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = 1
    assert moved.flat.other.keys() == model.flat.other.keys()
    for name, array in model.flat.other.items():  # the update brings none
        np.testing.assert_array_equal(moved.flat.other[name], array)
    still = model.moved(MeanUpdate.nothing(model))
    assert still.flat.weights.tobytes() == model.flat.weights.tobytes()
    assert still.flat.rest.tobytes() == model.flat.rest.tobytes()


@given(seed=seeds)
def test_another_mask_zeroes_what_it_lacks_and_grows_from_zero(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mine, its = free(2, rng)
    model = model_of(mine, rng, whole=SIZE + 9)
    changed = model.with_mask(Mask(LAYOUT, its))
    np.testing.assert_array_equal(
        changed.flat.weights, np.where(mine & its, model.flat.weights, 0).astype(np.float32)
    )
    assert changed.density == its.sum() / (SIZE + 9)
    assert changed.flat.rest.tobytes() == model.flat.rest.tobytes()


def test_pruned_weights_are_zeroed_in_a_copy() -> None:
    flat = LAYOUT.flatten({**ARRAYS, "a": np.ones((3, 4), np.float32)})
    bits = np.arange(SIZE) % 2 == 0
    model = SparseModel(flat, Mask(LAYOUT, bits))
    assert not model.flat.weights[~bits].any()
    assert flat.weights[~bits].any()
    assert flat.weights.flags.writeable


@given(shape=shapes, count=counts, seed=seeds)
def test_the_mean_of_models_is_weighted_over_all_of_them(
    shape: Callable[[int, np.random.Generator], list[Bits]], count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    models = [model_of(bits, rng) for bits in shape(count, rng)]
    weights = rng.integers(1, 500, count).astype(float)
    found = mean_model(zip(models, weights, strict=True))
    for part in ("weights", "rest"):
        stacked = np.array([getattr(model.flat, part) for model in models], np.float64)
        truth = np.average(stacked, axis=0, weights=weights)
        np.testing.assert_allclose(getattr(found.flat, part), truth, atol=1e-6)
        assert getattr(found.flat, part).dtype == np.float32
    union = np.logical_or.reduce([model.mask.bits for model in models])
    np.testing.assert_array_equal(found.mask.bits, union)
    assert found.flat.other is models[0].flat.other


def test_a_mean_of_no_models_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one model of positive weight"):
        mean_model([])


@given(seed=seeds, full=st.booleans(), whole=st.sampled_from([-1, 99]))
def test_a_model_comes_back_from_its_state(seed: int, full: bool, whole: int) -> None:
    rng = np.random.default_rng(seed)
    model = model_of(np.ones(SIZE, bool) if full else free(1, rng)[0], rng, whole)
    found = SparseModel.from_state(LAYOUT, model.to_state())
    assert (found.mask, found.whole, found.density) == (model.mask, whole, model.density)
    for name, array in model.arrays().items():
        again = found.arrays()[name]
        assert (again.dtype, again.shape) == (array.dtype, array.shape)
        assert again.tobytes() == array.tobytes()


@pytest.mark.parametrize("name", ["weights", "rest", "mask", "steps"])
def test_a_state_of_another_model_is_refused(name: str) -> None:
    state = model_of(np.arange(SIZE) % 2 > 0, np.random.default_rng(3)).to_state()
    part = state["other"] if name == "steps" else state
    part[name] = np.append(part[name], part[name][:1])
    with pytest.raises((ProtocolError, ValueError)):
        SparseModel.from_state(LAYOUT, state)
    del part[name]
    with pytest.raises(KeyError):
        SparseModel.from_state(LAYOUT, state)


def test_a_running_variance_never_goes_below_zero() -> None:
    arrays = {"w": np.zeros((2, 2), np.float32), "bn.running_var": np.ones(3, np.float32)}
    layout = Layout.of({**arrays, "bn.running_mean": np.ones(3, np.float32)})
    model = SparseModel.dense(
        layout, layout.flatten({**arrays, "bn.running_mean": np.ones(3, np.float32)})
    )
    step = MeanUpdate(model.mask, np.zeros(4), np.full(layout.rest_count, -2.5), 1.0)
    moved = model.moved(step).arrays()
    assert moved["bn.running_var"].tolist() == [0, 0, 0]
    assert moved["bn.running_mean"].tolist() == [-1.5, -1.5, -1.5]
