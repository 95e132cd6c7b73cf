"""The rule that bounds what one client can move, against numpy and over random runs."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.errors import ProtocolError
from caafp_app.pruning.influence import (
    ENOUGH,
    Admitted,
    Influence,
    capped,
    norm_of,
    opposed,
    scaled,
    shrink,
)

Told = tuple[int, str, float, float]
"""Group, label, norm and weight of a reply."""


def hold_round(rule: Influence[str], replies: Sequence[Told]) -> dict[str, Admitted[str]]:
    """Let a round of replies pass, and return what was admitted, by label."""
    admitted: list[Admitted[str]] = []
    for group, label, norm, weight in replies:
        admitted += rule.offer(group, label, {"values": norm}, weight, label, 100)
    admitted += rule.release()
    assert len({found.label for found in admitted}) == len(admitted)
    return {found.label: found for found in admitted}


HONEST = [(0, f"c{i}", 1.0 + 0.1 * i, 100.0) for i in range(9)]


def test_the_first_round_is_held_and_bounded_by_its_own_median() -> None:
    rule: Influence[str] = Influence(2.0, 2.0)
    first = rule.offer(0, "liar", {"values": 1000.0}, 1e9, "liar", 100)
    assert first == []
    found = hold_round(rule, HONEST)
    norms = sorted([1000.0, *(norm for _, _, norm, _ in HONEST)])
    middle = norms[(len(norms) - 1) // 2]
    assert found["liar"].factors["values"] * 1000 == pytest.approx(2 * middle)
    assert found["liar"].weight == 200
    assert found["liar"].clipped
    assert found["liar"].heavy
    assert not any(found[label].clipped or found[label].heavy for _, label, _, _ in HONEST)


def test_later_rounds_let_each_reply_go_at_once_by_the_median_of_earlier_rounds() -> None:
    rule: Influence[str] = Influence(3.0, 0.0)
    hold_round(rule, HONEST)
    rule.end_round()
    (found,) = rule.offer(0, "a", {"values": 42.0}, 1e9, "a", 100)
    assert found.factors["values"] * 42 == pytest.approx(3 * 1.4)
    assert found.weight == 1e9


@given(st.permutations(range(10)), st.integers(0, 9), st.floats(1, 1e12))
def test_the_order_of_replies_decides_nothing(order: list[int], liar: int, norm: float) -> None:
    told = [(i % 2, f"c{i}", 1.0 + 0.1 * i, 10.0 + i) for i in range(10)]
    told[liar] = (0, "liar", norm, 1e6)
    one, other = Influence[str](), Influence[str]()
    for _ in range(3):
        found = hold_round(one, told), hold_round(other, [told[i] for i in order])
        assert found[0] == found[1]
        assert one.end_round() == other.end_round()
        assert one.state() == other.state()


@given(st.lists(st.floats(0.5, 2.0), min_size=7, max_size=15), st.floats(0, 1e30))
def test_a_liar_is_never_longer_than_the_factor_times_an_honest_norm(
    norms: list[float], long: float
) -> None:
    rule: Influence[str] = Influence(2.0)
    told = [(0, f"c{i}", norm, 1.0) for i, norm in enumerate(norms)]
    for _ in range(3):
        found = hold_round(rule, [*told, (0, "liar", long, 1e9)])
        rule.end_round()
        assert found["liar"].factors["values"] * long <= 2.0 * max(norms) * (1 + 1e-12)
        assert found["liar"].weight <= 2.0


def test_a_full_memory_settles_the_bound_from_what_is_there() -> None:
    rule: Influence[str] = Influence(2.0, hold_bytes=150)
    assert rule.offer(0, "a", {"values": 1.0}, 1.0, "a", 100) == []
    assert rule.offer(0, "b", {"values": 2.0}, 1.0, "b", 100) == []  # full, but too few to tell
    assert len(rule.offer(0, "c", {"values": 50.0}, 1.0, "c", 100)) == ENOUGH
    (found,) = rule.offer(0, "d", {"values": 50.0}, 1.0, "d", 100)
    assert found.factors["values"] == pytest.approx(2 * 2.0 / 50)


def test_a_round_in_which_most_are_clipped_replaces_the_median() -> None:
    """A learning rate that rises from .02 to .5 makes every honest update 25 times as long."""
    rule: Influence[str] = Influence(2.0)
    slow, fast = HONEST, [(g, label, 25 * norm, w) for g, label, norm, w in HONEST]
    for _ in range(4):
        hold_round(rule, slow)
        assert rule.end_round() == ()
    assert all(found.clipped for found in hold_round(rule, fast).values())
    assert rule.end_round() == (0,)
    assert not any(found.clipped for found in hold_round(rule, fast).values())


def test_a_new_cluster_starts_from_the_median_of_all() -> None:
    rule: Influence[str] = Influence(2.0)
    hold_round(rule, HONEST)
    rule.end_round()
    (found,) = rule.offer(7, "a", {"values": 100.0}, 1.0, "a", 1)
    assert found.factors["values"] == pytest.approx(2 * 1.4 / 100)


def test_a_vector_seen_for_the_first_time_is_held_though_others_are_known() -> None:
    rule: Influence[str] = Influence(2.0)
    hold_round(rule, HONEST)
    rule.end_round()
    sizes = {"a": 1e-6, "b": 2e-6, "c": 1.0}
    for label, size in sizes.items():
        assert rule.offer(0, label, {"values": 1.0, "gradient": size}, 1.0, label, 1) == []
    found = {reply.label: reply.factors for reply in rule.release()}
    assert found["c"] == {"values": 1.0, "gradient": pytest.approx(4e-6)}
    assert found["a"] == {"values": 1.0, "gradient": 1.0}


def test_clients_with_nothing_to_learn_do_not_make_the_bound_zero() -> None:
    rule: Influence[str] = Influence(2.0)
    still = [(0, f"s{i}", 0.0, 1.0) for i in range(6)]
    for _ in range(2):
        found = hold_round(rule, [*still, *HONEST])
        assert not any(reply.clipped for reply in found.values())
        rule.end_round()


def test_no_bound_holds_nothing_back() -> None:
    (found,) = Influence[str](0, 0).offer(0, "a", {"values": 8.0}, 5.0, "a", 1)
    assert (found.factors["values"], found.weight) == (1.0, 5.0)


def test_state_goes_through_json_and_gives_the_same_bounds() -> None:
    one, other = Influence[str](), Influence[str]()
    for _ in range(7):
        hold_round(one, HONEST)
        one.end_round()
    kept = json.loads(json.dumps(one.state()))
    other.restore(kept)
    assert other.state() == kept
    assert len(kept["weights"]) == 5
    told = [(0, "liar", 77.0, 1e5)]
    assert hold_round(one, told) == hold_round(other, told)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_what_is_no_norm_or_weight_is_refused(bad: float) -> None:
    rule: Influence[str] = Influence()
    with pytest.raises(ProtocolError, match="finite norm"):
        rule.offer(0, "a", {"values": bad}, 1.0, "a", 1)
    with pytest.raises(ProtocolError, match="weight above 0"):
        rule.offer(0, "a", {"values": 1.0}, bad, "a", 1)
    assert rule.release() == []


def test_norm_and_clip_against_numpy() -> None:
    rng = np.random.default_rng(1)
    vector = rng.normal(size=300_001).astype(np.float32)
    assert norm_of(vector[:7], vector[7:]) == pytest.approx(float(np.linalg.norm(vector)), rel=1e-6)
    assert norm_of(np.full(4, 1e30, np.float32)) == pytest.approx(2e30)
    assert math.isnan(norm_of(np.array([np.nan])))
    assert shrink(5.0, 10.0) == 1.0
    assert np.linalg.norm(scaled(vector, shrink(norm_of(vector), 10.0))) == pytest.approx(10)
    assert scaled(vector, 0.5).dtype == np.float32
    assert scaled(vector, 1.0) is vector


@pytest.mark.parametrize(
    ("weights", "times", "expected"),
    [
        ([1.0, 2, 3, 1e9], 2.0, [1.0, 2, 3, 4]),
        ([0.0, 0, 5, 7], 1.0, [0.0, 0, 5, 5]),
        ([1.0, 9], 0.0, [1.0, 9]),
        ([], 2.0, []),
    ],
)
def test_weights_known_together_are_cut(weights: Any, times: float, expected: Any) -> None:
    assert capped(weights, times) == expected


def test_shrink() -> None:
    assert [shrink(2, 1), shrink(1, 1), shrink(0, 0), shrink(3, math.inf)] == [0.5, 1, 1, 1]


def round_of(honest: int, liars: int, agree: float, seed: int = 0) -> np.ndarray:
    """Updates [n, 400] of which the honest ones share a direction; each liar sends -9 x its own."""
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=400), rng.normal(size=(honest + liars, 400))
    made = np.sqrt(agree) * common + np.sqrt(1 - agree) * own
    made[honest:] *= -9.0
    return made


@pytest.mark.parametrize(("honest", "liars"), [(7, 3), (9, 1), (3, 1), (6, 4), (10, 0)])
def test_those_that_go_backwards_are_opposed(honest: int, liars: int) -> None:
    for seed in range(5):
        made = round_of(honest, liars, 0.5, seed)
        order = np.random.default_rng(seed).permutation(len(made))
        expected = np.arange(honest + liars)[order] >= honest
        assert opposed(list(made[order])).tolist() == expected.tolist()


def test_nobody_is_opposed_without_a_majority_that_agrees() -> None:
    assert not opposed(list(round_of(7, 3, 0.02))).any()  # each its own way
    assert not opposed(list(round_of(5, 5, 0.5))).any()  # two camps
    assert not opposed(list(round_of(2, 1, 0.9))).any()  # two have no median
    assert not opposed([np.zeros(400, np.float32)] * 6).any()
    assert not opposed([row[:4] for row in round_of(7, 3, 0.5)]).any()  # so short, by chance
    assert not opposed([np.zeros(0)] * 6).any()


@given(seed=st.integers(0, 99), liars=st.integers(1, 4), long=st.floats(1e-3, 1e6))
def test_liars_cannot_have_most_honest_clients_left_out(seed: int, liars: int, long: float) -> None:
    made = round_of(9, 0, 0.5, seed)
    liar = -made.mean(axis=0) * long  # all of them alike, whatever their length
    found = opposed([*made, *[liar] * liars])
    assert not found[:9].any()
    assert found[9:].all()
