"""The rule that bounds what one client can move, against numpy and over random runs."""

import json
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.errors import ProtocolError
from caafp_app.pruning.influence import ENOUGH, Admitted, Influence

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
    assert not any(found[label].clipped for _, label, _, _ in HONEST)


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
        one.end_round()
        other.end_round()
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


def test_a_full_memory_settles_the_bound_from_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("caafp_app.pruning.influence.HOLD_BYTES", 150)
    rule: Influence[str] = Influence(2.0)
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
        assert not any(found.clipped for found in hold_round(rule, slow).values())
        rule.end_round()
    assert all(found.clipped for found in hold_round(rule, fast).values())
    rule.end_round()
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
