"""Nested parts, and evidence of several levels, against numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.errors import MaskUpdateError, SettingsError
from caafp_app.pruning.evidence import Evidence
from caafp_app.pruning.filters import choose_share, filter_mask
from caafp_app.pruning.levels import PooledEvidence, level_of, nested_masks, parse_levels
from caafp_app.pruning.means import WeightedMean
from caafp_app.pruning.segments import segments_of
from caafp_app.pruning.sums import accumulate, make_sums

WANTS = ("moves", "signs", "squares")


def test_levels_are_read_as_written():
    assert parse_levels("1") == (1.0,)
    assert parse_levels("1, 0.5,.25") == (1.0, 0.5, 0.25)


@pytest.mark.parametrize("text", ["", "0.5", "1,1", "1,0.25,0.5", "1,0", "1,2", "1,nan", "1,,0.5"])
def test_other_levels_are_refused(text):
    with pytest.raises(SettingsError, match="levels: expected"):
        parse_levels(text)


def test_a_device_takes_the_widest_level_that_it_can():
    shares = (1.0, 0.5, 0.25)
    assert [level_of(shares, s) for s in (1.0, 0.99, 0.5, 0.4, 0.25, 0.1)] == [0, 1, 1, 2, 2, 2]


@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4), seed=st.integers(0, 2**32 - 1))
def test_parts_are_nested_and_the_best_of_each_layer(sizes, seed):
    rng, segments, shares = np.random.default_rng(seed), segments_of(sizes), (0.6, 0.3, 0.1)
    bits, scores = rng.random(sum(sizes)) < 0.7, rng.random(sum(sizes))
    before = bits
    for share, mask in zip(shares, nested_masks(bits, scores, segments, shares), strict=True):
        assert not np.any(mask & ~before)
        for layer in segments:
            active = int(bits[layer].sum())
            assert mask[layer].sum() == max(int(share * active + 0.5), min(1, active))
            left = scores[layer][bits[layer] & ~mask[layer]]
            assert scores[layer][mask[layer]].min(initial=2) >= left.max(initial=-1)
        before = mask
    with pytest.raises(MaskUpdateError, match="expected scores of"):
        nested_masks(bits, scores[:0], segments, shares) if bits.size else nested_masks(
            bits, np.zeros(1), segments, shares
        )


def test_a_share_of_filters_is_that_of_largest_score_among_those_left():
    arrays = {"a": np.zeros((8, 2, 3)), "b": np.zeros((4, 16))}
    mask = {name: np.ones(array.shape, bool) for name, array in arrays.items()}
    mask["a"][[1, 6]] = False
    scores = {"a": np.zeros((8, 2, 3)), "b": np.ones((4, 16))}
    scores["a"][:, 0, 0] = [1, 9, 5, 2, 8, 3, 7, 4]
    wide, small = (choose_share(arrays, mask, scores, share) for share in (0.5, 0.2))
    assert wide["a"][0].tolist() == [2, 4, 7]
    assert small["a"][0].tolist() == [4]
    assert wide["b"][1].tolist() == [4, 5, 8, 9, 14, 15]  # two positions of each
    assert filter_mask(arrays, wide)["b"].sum() == 4 * 6


def evidence_of(rounds, weights):
    evidence = Evidence(rounds.shape[2])
    for updates in rounds:
        mean, sums = WeightedMean(updates.shape[1]), make_sums(WANTS, updates.shape[1])
        for update, weight in zip(updates, weights, strict=True):
            accumulate(update, weight, mean, tuple(sums.values()))
        evidence.add_round(mean, sums)
    return evidence


def pooled(seed, size, few, rounds, clients, shift=0.0):
    """Two levels: the wide one has all weights, the narrow one the first `few`."""
    rng = np.random.default_rng(seed)
    wide, narrow = (rng.normal(shift, 1, (rounds, n, size)) for n in clients)
    narrow = narrow[:, :, :few]
    whole = [(wide, np.arange(size)), (narrow, np.arange(few))]
    made = [(evidence_of(u, [2.0] * u.shape[1]), place) for u, place in whole]
    return PooledEvidence(size, made), wide, narrow


def test_what_two_levels_say_is_that_of_numpy():
    found, wide, narrow = pooled(1, 6, 4, rounds=2, clients=(3, 2), shift=1.0)
    scatter, freedom = np.zeros(6), np.zeros(6)
    total, signs, replies = np.zeros(6), np.zeros(6), np.zeros(6)
    for updates in (*wide, *narrow):
        n = updates.shape[1]
        scatter[:n] += 2 * ((updates - updates.mean(0)) ** 2).sum(0)
        freedom[:n] += 2 * (len(updates) - 1)
        total[:n] += updates.sum(0)
        signs[:n] += np.sign(updates).sum(0)
        replies[:n] += len(updates)
    whole, k = slice(0, 6), signs / replies
    np.testing.assert_allclose(found.variance(whole), scatter / freedom)
    np.testing.assert_allclose(found.mean_of("moves", whole), total / replies, atol=1e-9)
    truth = np.sqrt(np.maximum((replies * k**2 - 1) / (replies - 1), 0))
    np.testing.assert_allclose(found.sign_agreement(whole), truth, atol=1e-9)
    np.testing.assert_allclose(found.variance(slice(3, 5)), (scatter / freedom)[3:5])


def test_a_weight_of_a_single_reply_has_the_median_of_its_layer():
    found, _, _ = pooled(3, 5, 3, rounds=1, clients=(1, 4))
    variance = found.variance(slice(0, 5))
    assert variance[3:].tolist() == [np.median(variance[:3])] * 2
    nothing, _, _ = pooled(3, 5, 3, rounds=0, clients=(1, 4))
    assert nothing.variance(slice(0, 5)).tolist() == [0.0] * 5
    assert nothing.mean_of("moves", slice(0, 5)).tolist() == [0.0] * 5
