"""Where a client's own training leads to, and what follows from it."""

import json

import numpy as np
import pytest

from caafp_app.clustering.pulls import ALIKE_IN_A_ROW, PullBook, pulls_of


def test_a_step_down_the_loss_leads_to_the_model_that_serves_better() -> None:
    # Loss (w - best)^2 / 2: a small step down it is an update along best - w.
    best, own = np.array([3.0, 0.0, 1.0]), np.zeros(3)
    near, far = np.array([2.0, 0.5, 1.0]), np.array([-2.0, 1.0, 0.0])
    pulls = pulls_of(0.1 * (best - own), own, [(1, near), (2, far), (3, own)])
    cosine = best @ near / np.linalg.norm(best) / np.linalg.norm(near)
    assert pulls[1] == pytest.approx(cosine - 3**-0.5)
    assert pulls[2] < 0 < pulls[1]
    assert pulls[3] == 0.0
    assert pulls_of(np.zeros(3), own, [(1, near)]) == {1: 0.0}


MEMBERS = {0: ["a", "b", "c"], 1: ["d", "e", "f"]}
APART = {"a": {1: -0.1}, "b": {1: -0.2}, "c": {1: -0.1}, **{k: {0: -0.15} for k in "def"}}


def test_a_client_moves_that_is_led_away_twice_in_a_row() -> None:
    book = PullBook()
    book.note(MEMBERS, APART)
    led = {"a": {1: 0.2}}
    book.note(MEMBERS, led)
    book.note(MEMBERS, {"b": {1: -0.1}})  # a round without it: its rounds count
    assert book.moves() == {}
    book.note(MEMBERS, led)
    assert book.moves() == {"a": 1}
    book.forget(["a"], [])
    assert book.moves() == {}


def test_a_client_does_not_return_for_less_than_it_left_for() -> None:
    book, members = PullBook(), {0: ["b", "c"], 1: ["a", "d", "e", "f"]}
    book.note(MEMBERS, APART | {"a": {1: 0.2}})
    assert book.leave("a", 0, 1) == 0.2
    book.forget(["a"], [])
    for pull, moves in ((0.15, {}), (0.3, {"a": 0})):
        for _ in range(2):
            book.note(members, {"a": {0: pull}})
        assert book.moves() == moves


def test_once_is_not_enough_nor_is_a_margin_that_all_have() -> None:
    book = PullBook()
    book.note(MEMBERS, {**APART, "a": {1: 0.2}})
    book.note(MEMBERS, APART)
    book.note(MEMBERS, {**APART, "a": {1: 0.2}})
    assert book.moves() == {}
    lag = {label: {1: 0.2} for label in MEMBERS[0]}  # the whole cluster is behind the other
    for _ in range(3):
        book.note(MEMBERS, APART | lag)
    assert book.moves() == {}


def test_clusters_that_nobody_is_led_away_from_are_one() -> None:
    book, alike = PullBook(), {**{k: {1: 0.04} for k in "abc"}, **{k: {0: -0.07} for k in "def"}}
    book.note(MEMBERS, APART)
    for count in range(1, ALIKE_IN_A_ROW + 1):
        assert book.merges() == []
        book = PullBook.from_json(json.loads(json.dumps(book.to_json())))
        book.note(MEMBERS, alike)
        assert book.pairs == {(0, 1): count}
    assert book.merges() == [(0, 1)]
    book.note(MEMBERS, {"a": {1: 0.0}})  # nobody of the other answered: nothing new is known
    assert book.merges() == [(0, 1)]
    book.note(MEMBERS, APART)
    assert book.merges() == []
