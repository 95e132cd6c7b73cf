"""Evidence over several rounds against numpy on the raw updates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.errors import MaskUpdateError
from caafp_app.pruning.evidence import Evidence
from caafp_app.pruning.means import WeightedMean
from caafp_app.pruning.sums import accumulate, make_sums

BOTH = ("squares", "signs")
seeds = st.integers(0, 2**32 - 1)
replies = st.lists(st.integers(0, 6), min_size=1, max_size=4)


def make_rounds(seed, size, replies_per_round):
    """Updates (with exact zeros) and example counts of each round."""
    rng = np.random.default_rng(seed)
    rounds = []
    for count in replies_per_round:
        updates = rng.standard_normal((count, size)).astype(np.float32) * 1e-2
        updates[rng.random(updates.shape) < 0.2] = 0.0
        rounds.append((updates, rng.integers(1, 400, count)))
    return rounds


def summed(updates, weights, order=None, wants=BOTH):
    """One round's mean and other sums, the replies in an order."""
    mean, sums = WeightedMean(updates.shape[1]), make_sums(wants, updates.shape[1])
    for client in range(len(weights)) if order is None else order:
        accumulate(updates[client], float(weights[client]), mean, tuple(sums.values()))
    return mean, sums


def evidence_of(rounds, size, wants=BOTH):
    evidence = Evidence(size)
    for updates, weights in rounds:
        evidence.add_round(*summed(updates, weights, wants=wants))
    return evidence


def bits(evidence):
    state = evidence.state()
    between = None if state["between"] is None else state["between"].tobytes()
    sums = {
        (name, key): array.tobytes()
        for name, one in state["sums"].items()
        for key, array in one.items()
    }
    return state["size"], state["counts"], between, sums


@given(seed=seeds, size=st.integers(1, 30), counts=replies)
def test_equal_to_numpy_over_stacked_clients(seed, size, counts):
    rounds, whole = make_rounds(seed, size, counts), slice(0, size)
    evidence = evidence_of(rounds, size)
    total = sum(int(weights.sum()) for _, weights in rounds)
    within, signs, squares = np.zeros(size), np.zeros(size), np.zeros(size)
    for updates, weights in rounds:
        if not len(weights):
            continue
        stacked, heavy = updates.astype(np.float64), weights[:, None]
        within += (heavy * (stacked - np.average(stacked, axis=0, weights=weights)) ** 2).sum(0)
        signs += (heavy * np.sign(stacked)).sum(0)
        squares += (heavy * stacked**2).sum(0)
    assert (evidence.replies, evidence.weight) == (sum(counts), total)
    total = max(total, 1)
    np.testing.assert_allclose(evidence.variance(whole), within / total, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(evidence.sign_agreement(whole), np.abs(signs) / total)
    np.testing.assert_allclose(evidence.mean_of("squares", whole), squares / total, atol=1e-10)
    part = slice(size // 3, size // 2)
    np.testing.assert_array_equal(evidence.variance(part), evidence.variance(whole)[part])


@given(seed=seeds, order=seeds)
def test_sums_of_groups_merge_in_any_order_to_the_sum_of_all(seed, order):
    size = 20
    ((updates, weights),) = make_rounds(seed, size, [9])
    _, whole = summed(updates, weights)
    groups = [summed(updates[k::3], weights[k::3])[1] for k in range(3)]
    first, *others = (groups[k] for k in np.random.default_rng(order).permutation(3))
    for group in others:
        for name, one in group.items():
            first[name].total.merge(one.total)
    for name, one in whole.items():
        everything = slice(0, size)
        assert first[name].total.read(everything).tobytes() == one.total.read(everything).tobytes()


def test_movement_of_the_model_between_rounds_is_no_disagreement():
    rounds = [(np.full((2, 1), value, np.float32), np.array([10, 10])) for value in (1.0, -3.0)]
    evidence = evidence_of(rounds, 1)
    assert evidence.variance(slice(0, 1)).tolist() == [0.0]
    assert evidence.sign_agreement(slice(0, 1)).tolist() == [0.0]


@pytest.mark.parametrize("rounds", [0, 1])
def test_without_replies_nothing_divides_by_zero(rounds):
    evidence, whole = evidence_of(make_rounds(1, 3, [0] * rounds), 3), slice(0, 3)
    for values in (evidence.variance(whole), evidence.sign_agreement(whole)):
        assert values.tolist() == [0.0, 0.0, 0.0]
    assert evidence.mean_of("anything", whole).tolist() == [0.0, 0.0, 0.0]


def test_evidence_of_another_mask_or_other_sums_is_refused():
    rounds = make_rounds(1, 3, [2])
    with pytest.raises(MaskUpdateError, match="expected sums of 4 weights, found 3"):
        Evidence(4).add_round(*summed(*rounds[0]))
    evidence = evidence_of(rounds, 3)
    with pytest.raises(MaskUpdateError, match=r"expected sums \['signs', 'squares'\]"):
        evidence.add_round(*summed(*rounds[0], wants=("signs",)))
    signs = evidence_of(rounds, 3, wants=("signs",))
    with pytest.raises(MaskUpdateError, match="expected the sum 'squares'"):
        signs.variance(slice(0, 3))


@pytest.mark.parametrize("wants", [(), ("signs",), BOTH])
def test_it_survives_a_checkpoint(wants):
    rounds = make_rounds(8, 12, [4, 3, 5])
    whole = evidence_of(rounds, 12, wants)
    resumed = Evidence.from_state(evidence_of(rounds[:2], 12, wants).state())
    resumed.add_round(*summed(*rounds[2], wants=wants))
    assert bits(resumed) == bits(whole)
    assert (resumed.size, resumed.replies, resumed.weight) == (12, 12, whole.weight)
