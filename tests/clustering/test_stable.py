"""Clusters keep the numbers that most of their clients had."""

from hypothesis import given
from hypothesis import strategies as st

from caafp_app.clustering.assign import keep_numbers

Clusterings = st.dictionaries(st.sampled_from("abcdefghij"), st.integers(0, 3), min_size=1)


def groups(labels: dict[str, int]) -> set[frozenset[str]]:
    numbers = set(labels.values())
    return {frozenset(k for k, number in labels.items() if number == n) for n in numbers}


def test_the_same_groups_in_another_order_change_nothing() -> None:
    before = {"a": 0, "b": 0, "c": 1, "d": 2}
    assert keep_numbers(before, {"a": 2, "b": 2, "c": 0, "d": 1}) == before


def test_a_client_that_changes_sides_does_not_renumber_the_others() -> None:
    before = {"a": 0, "b": 0, "c": 1, "d": 1, "e": 1}
    assert keep_numbers(before, {"a": 1, "b": 1, "c": 1, "d": 0, "e": 0}) == {
        **before,
        "c": 0,
    }


def test_one_cluster_that_falls_apart_keeps_its_number_for_the_larger_part() -> None:
    before = dict.fromkeys("abcde", 0)
    assert keep_numbers(before, {"a": 0, "b": 0, "c": 1, "d": 1, "e": 1}) == {
        "a": 1,
        "b": 1,
        "c": 0,
        "d": 0,
        "e": 0,
    }


@given(before=Clusterings, after=Clusterings)
def test_groups_are_what_they_were(before: dict[str, int], after: dict[str, int]) -> None:
    kept = keep_numbers(before, after)
    assert kept.keys() == after.keys()
    assert groups(kept) == groups(after)


def test_nobody_is_no_cluster() -> None:
    assert keep_numbers({"a": 0}, {}) == {}
    assert keep_numbers({}, {"a": 0, "b": 1}) == {"a": 0, "b": 1}
