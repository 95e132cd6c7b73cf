"""The running sums against numpy over all clients stacked; evidence is in test_evidence."""

import numpy as np
import pytest

from caafp_app.errors import MaskUpdateError, ProtocolError, SettingsError
from caafp_app.pruning.means import GradientMean, WeightedMean
from caafp_app.pruning.sums import TermSum, accumulate, make_sums
from caafp_app.registry import SUMS
from caafp_app.vectors.chunks import CHUNK


def replies_of(seed, size, count):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, size)).astype(np.float32) * 1e-2, rng.integers(1, 400, count)


def summed(updates, weights, wants=SUMS.builtin):
    mean, sums = WeightedMean(updates.shape[1]), make_sums(wants, updates.shape[1])
    for update, weight in zip(updates, weights, strict=True):
        accumulate(update, float(weight), mean, tuple(sums.values()))
    return mean, sums


def states(sums):
    return [a.tobytes() for one in sums.values() for a in one.total.state_dict().values()]


def test_chunks_and_dtypes_agree():
    updates, weights = replies_of(5, CHUNK + 3, 3)
    mean, single = summed(updates, weights)
    _, double = summed(updates.astype(np.float64), weights)
    alone = WeightedMean(CHUNK + 3)
    for update, weight in zip(updates, weights, strict=True):
        alone.add(update, weight)
    assert states(single) == states(double)
    assert alone.mean().tobytes() == mean.mean().tobytes()
    truth = np.average(updates.astype(np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(mean.mean(), truth, rtol=0, atol=1e-10)


def test_the_builtin_sums_are_those_of_numpy():
    updates, weights = replies_of(4, 9, 5)
    updates[0, :3] = 0.0
    _, sums = summed(updates, weights)
    double, heavy = updates.astype(np.float64), weights[:, None]
    truths = {
        "moves": (heavy * double).sum(0),
        "squares": (heavy * double**2).sum(0),
        "signs": (heavy * np.sign(double)).sum(0),
    }
    assert sums.keys() == truths.keys()
    for name, truth in truths.items():
        np.testing.assert_allclose(sums[name].total.read(slice(0, 9)), truth, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(sums["signs"].total.read(slice(0, 9)), truths["signs"])


@pytest.mark.parametrize("look", [False, True])
@pytest.mark.parametrize(
    "weights", [(3, 40, 7), (0.5, 3, 0.25), (2**31 - 1, 1, 2), (2**31, 5, 1), (2**40, 1, 2**-24)]
)
def test_signs_add_up_exactly_whatever_the_weights(weights, look):
    updates, _ = replies_of(8, CHUNK // 4 + 3, 3)
    updates[1, ::3] = 0.0
    mean, signs = WeightedMean(updates.shape[1]), make_sums(("signs",), updates.shape[1])["signs"]
    for update, weight in zip(updates, weights, strict=True):
        accumulate(update, weight, mean, (signs,))
        if look:
            assert np.abs(signs.total.read(slice(0, 2))).max() <= sum(weights)
    truth = (np.array(weights, np.float64)[:, None] * np.sign(updates, dtype=np.float64)).sum(0)
    np.testing.assert_array_equal(signs.total.read(slice(None)), truth)


def test_a_sum_of_ones_own_is_a_quantum_a_bound_and_a_term():
    class Cubes(TermSum):
        quantum = -48

        def largest(self, peak, weight):
            return weight * peak**3

        def term(self, values, weighted, out):
            return np.multiply(values * values, weighted, out=out)

    updates, weights = replies_of(6, 7, 4)
    cubes, mean = Cubes(7), WeightedMean(7)
    for update, weight in zip(updates, weights, strict=True):
        accumulate(update, float(weight), mean, (cubes,))
    truth = (weights[:, None] * updates.astype(np.float64) ** 3).sum(0)
    np.testing.assert_allclose(cubes.total.read(slice(0, 7)), truth, rtol=0, atol=1e-10)


def test_a_sum_that_nobody_registered_is_refused():
    with pytest.raises(SettingsError, match="found 'cubes'"):
        make_sums(("cubes",), 3)


@pytest.mark.parametrize(
    ("update", "weight"),
    [
        (np.array([1.0, np.nan], np.float32), 1),
        (np.array([1.0, np.inf], np.float32), 1),
        (np.ones(3, np.float32), 1),
        (np.ones(2, np.float32), 0),
        (np.ones(2, np.float32), np.nan),
        (np.full(2, 1e20, np.float32), 1),  # the mean would take it, the squares would not
    ],
)
def test_a_refused_reply_enters_no_sum(update, weight):
    mean, sums = summed(np.array([[0.5, -0.5]], np.float32), np.array([2]))
    whole = slice(0, 2)
    before = [one.total.read(whole).tolist() for one in sums.values()]
    with pytest.raises(ProtocolError):
        accumulate(update, weight, mean, tuple(sums.values()))
    assert [one.total.read(whole).tolist() for one in sums.values()] == before
    assert (mean.replies, mean.weight, mean.mean().tolist()) == (1, 2.0, [0.5, -0.5])


def test_sums_of_another_mask_are_refused():
    mean = WeightedMean(2)
    with pytest.raises(MaskUpdateError, match="found 3"):
        accumulate(np.ones(2, np.float32), 1, mean, tuple(make_sums(("signs",), 3).values()))
    assert mean.replies == 0


def test_without_replies_a_mean_is_zero():
    assert WeightedMean(3).mean().tolist() == GradientMean(3).mean().tolist() == [0.0, 0.0, 0.0]


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
        gradients = GradientMean(30)
        for client in order:
            gradients.add_at(*replies[client])
        truth = np.average(dense, axis=0, weights=[3, 10, 41, 7])
        np.testing.assert_allclose(gradients.mean(), truth, atol=1e-9)
        results.add(gradients.mean().tobytes())
    assert len(results) == 1


def test_a_reply_without_gradients_counts_and_a_bad_one_does_not():
    gradients = GradientMean(4)
    gradients.add_at(np.array([1]), np.array([2.0], np.float32), 1)
    gradients.add_at(np.empty(0, np.int64), np.empty(0, np.float32), 3)
    with pytest.raises(ProtocolError):
        gradients.add_at(np.array([4]), np.array([2.0], np.float32), 1)
    assert gradients.mean().tolist() == [0.0, 0.5, 0.0, 0.0]
    assert (gradients.replies, gradients.weight) == (2, 4.0)
