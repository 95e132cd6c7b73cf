"""Which updates of a round point against most others'."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.pruning.opposed import opposed


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
