"""The running sums against numpy over all clients stacked."""

import numpy as np
import pytest
from caafp_app.pruning.statistics import GradientSums, RoundSums, UpdateStatistics, accumulate
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.errors import MaskUpdateError, ProtocolError
from caafp_app.vectors.chunks import CHUNK


def make_rounds(seed, size, replies_per_round):
    """Updates (with exact zeros) and example counts of each round."""
    rng = np.random.default_rng(seed)
    rounds = []
    for replies in replies_per_round:
        updates = rng.standard_normal((replies, size)).astype(np.float32) * 1e-2
        updates[rng.random(updates.shape) < 0.2] = 0.0
        rounds.append((updates, rng.integers(1, 400, replies)))
    return rounds


def run(rounds, size, orders=None):
    statistics, means = UpdateStatistics(size), []
    for number, (updates, weights) in enumerate(rounds):
        sums = RoundSums(size)
        for client in orders[number] if orders else range(len(weights)):
            accumulate(updates[client], float(weights[client]), sums, statistics)
        statistics.end_round(sums)
        means.append(sums.mean())
    return means, statistics


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 30),
    replies=st.lists(st.integers(0, 6), min_size=1, max_size=4),
)
def test_equal_to_numpy_over_stacked_clients(seed, size, replies):
    rounds = make_rounds(seed, size, replies)
    means, statistics = run(rounds, size)
    total = sum(int(weights.sum()) for _, weights in rounds)
    within, signs = np.zeros(size), np.zeros(size)
    for (updates, weights), mean in zip(rounds, means, strict=True):
        if not len(weights):
            assert not mean.any()
            continue
        stacked = updates.astype(np.float64)
        truth = np.average(stacked, axis=0, weights=weights)
        np.testing.assert_allclose(mean, truth, rtol=0, atol=1e-10)
        within += (weights[:, None] * (stacked - truth) ** 2).sum(0)
        signs += (weights[:, None] * np.sign(stacked)).sum(0)
    assert statistics.replies == sum(replies)
    assert statistics.weight == total
    if total == 0:
        assert not statistics.variance().any()
        assert not statistics.sign_agreement().any()
    else:
        np.testing.assert_allclose(statistics.variance(), within / total, rtol=0, atol=1e-10)
        np.testing.assert_array_equal(statistics.sign_agreement(), np.abs(signs) / total)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), order=st.integers(0, 2**32 - 1))
def test_order_of_arrival_does_not_show_in_a_bit(seed, order):
    size, replies = 50, [5, 1, 7]
    rounds = make_rounds(seed, size, replies)
    rng = np.random.default_rng(order)
    means, statistics = run(rounds, size)
    other_means, other = run(rounds, size, [rng.permutation(n) for n in replies])
    assert [mean.tobytes() for mean in means] == [mean.tobytes() for mean in other_means]
    for key, array in statistics.state_dict().items():
        assert array.tobytes() == other.state_dict()[key].tobytes()
    assert statistics.variance().tobytes() == other.variance().tobytes()
    assert statistics.sign_agreement().tobytes() == other.sign_agreement().tobytes()


def test_movement_of_the_model_between_rounds_is_no_disagreement():
    statistics = UpdateStatistics(1)
    for value in (1.0, -3.0):
        sums = RoundSums(1)
        for _ in range(2):
            accumulate(np.array([value], np.float32), 10, sums, statistics)
        statistics.end_round(sums)
    assert statistics.variance().tolist() == [0.0]
    assert statistics.sign_agreement().tolist() == [0.0]


def test_chunks_and_dtypes_agree():
    size = CHUNK + 3
    ((updates, weights),) = make_rounds(5, size, [3])
    _, single = run([(updates, weights)], size)
    _, double = run([(updates.astype(np.float64), weights)], size)
    alone = RoundSums(size)
    for update, weight in zip(updates, weights, strict=True):
        alone.add(update, weight)
    means, _ = run([(updates, weights)], size)
    assert single.variance().tobytes() == double.variance().tobytes()
    assert single.sign_agreement().tobytes() == double.sign_agreement().tobytes()
    assert alone.mean().tobytes() == means[0].tobytes()
    assert single.variance()[-3:].all()


def test_without_replies_nothing_divides_by_zero():
    sums, statistics = RoundSums(3), UpdateStatistics(3)
    statistics.end_round(sums)
    gradients = GradientSums(3)
    for values in (
        sums.mean(),
        statistics.variance(),
        statistics.sign_agreement(),
        gradients.mean(),
    ):
        assert values.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("update", "weight"),
    [
        (np.array([1.0, np.nan], np.float32), 1),
        (np.array([1.0, np.inf], np.float32), 1),
        (np.ones(3, np.float32), 1),
        (np.ones(2, np.float32), 0),
        (np.ones(2, np.float32), np.nan),
        (np.full(2, 1e4, np.float32), 1e3),  # the sum would take it, the squares would not
    ],
)
def test_a_refused_reply_enters_no_sum(update, weight):
    sums, statistics = RoundSums(2), UpdateStatistics(2)
    accumulate(np.array([0.5, -0.5], np.float32), 2, sums, statistics)
    before = [array.tobytes() for array in statistics.state_dict().values()]
    with pytest.raises(ProtocolError):
        accumulate(update, weight, sums, statistics)
    assert [array.tobytes() for array in statistics.state_dict().values()] == before
    assert (sums.replies, sums.weight, sums.mean().tolist()) == (1, 2.0, [0.5, -0.5])


def test_statistics_of_another_mask_are_refused():
    sums = RoundSums(2)
    with pytest.raises(MaskUpdateError, match="found 3"):
        accumulate(np.ones(2, np.float32), 1, sums, UpdateStatistics(3))
    assert sums.replies == 0


def test_rounds_must_be_ended_with_their_own_sums():
    sums, statistics = RoundSums(1), UpdateStatistics(1)
    accumulate(np.ones(1, np.float32), 1, sums, statistics)
    with pytest.raises(MaskUpdateError, match="end_round"):
        statistics.variance()
    accumulate(np.ones(1, np.float32), 1, sums)  # not in the statistics
    with pytest.raises(MaskUpdateError, match="each reply into both"):
        statistics.end_round(sums)


def test_gradients_are_the_mean_over_all_replies_in_any_order():
    rng = np.random.default_rng(2)
    replies = []
    for weight in (3, 10, 41, 7):
        index = np.sort(rng.choice(30, 9, replace=False))
        replies.append((index, rng.standard_normal(9).astype(np.float16), weight))
    dense = np.zeros((4, 30))
    for row, (index, value, _) in zip(dense, replies, strict=True):
        row[index] = value
    results = set()
    for order in (range(4), (3, 1, 0, 2)):
        sums = GradientSums(30)
        for client in order:
            sums.add(*replies[client])
        np.testing.assert_allclose(
            sums.mean(), np.average(dense, axis=0, weights=[3, 10, 41, 7]), atol=1e-9
        )
        results.add(sums.mean().tobytes())
    assert len(results) == 1


def test_a_reply_without_gradients_counts_and_a_bad_one_does_not():
    sums = GradientSums(4)
    sums.add(np.array([1]), np.array([2.0], np.float32), 1)
    sums.add(np.empty(0, np.int64), np.empty(0, np.float32), 3)
    with pytest.raises(ProtocolError):
        sums.add(np.array([4]), np.array([2.0], np.float32), 1)
    assert sums.mean().tolist() == [0.0, 0.5, 0.0, 0.0]
    assert (sums.replies, sums.weight) == (2, 4.0)


def test_states_survive_a_checkpoint():
    rounds = make_rounds(8, 12, [4, 3, 5])
    _, whole = run(rounds, 12)
    _, half = run(rounds[:2], 12)
    resumed = UpdateStatistics.from_state(half.state_dict())
    updates, weights = rounds[2]
    sums = RoundSums(12)
    for update, weight in zip(updates[:2], weights[:2], strict=True):
        accumulate(update, weight, sums, resumed)
    # In the middle of a round as well.
    resumed = UpdateStatistics.from_state(resumed.state_dict())
    sums = RoundSums.from_state(sums.state_dict())
    for update, weight in zip(updates[2:], weights[2:], strict=True):
        accumulate(update, weight, sums, resumed)
    resumed.end_round(sums)
    for key, array in whole.state_dict().items():
        np.testing.assert_array_equal(resumed.state_dict()[key], array)
    gradients = GradientSums(5)
    gradients.add(np.array([0, 4]), np.array([1.0, 2.0]), 2)
    restored = GradientSums.from_state(gradients.state_dict())
    assert restored.mean().tolist() == gradients.mean().tolist() == [1.0, 0.0, 0.0, 0.0, 2.0]
    assert (restored.replies, restored.size) == (1, 5)


def test_a_mean_moves_a_vector_and_may_be_had_in_the_memory_of_its_sum():
    size = CHUNK + 5
    ((updates, weights),) = make_rounds(3, size, [3])
    sums = RoundSums(size)
    for update, weight in zip(updates, weights, strict=True):
        sums.add(update, weight)
    mean = sums.mean()
    model = np.random.default_rng(1).standard_normal(size).astype(np.float32)
    moved = model.copy()
    sums.move(moved)
    assert moved.dtype == np.float32
    assert moved.tobytes() == (model + mean).astype(np.float32).tobytes()
    assert sums.spend().tobytes() == mean.tobytes()
    empty = RoundSums(3)
    empty.move(moved[:3])
    assert moved[:3].tobytes() == (model + mean).astype(np.float32)[:3].tobytes()
    assert empty.spend().tolist() == [0.0, 0.0, 0.0]
