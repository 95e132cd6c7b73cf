"""Means that a few liars cannot move, against numpy and scipy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import trim_mean

from caafp_app.pruning import robust
from caafp_app.pruning.robust import (
    geometric_median,
    is_variance,
    liars_among,
    median,
    middle_buffers,
    multi_krum,
    trimmed_mean,
)

Rule = Callable[..., NDArray[Any]]
COORDINATE, SHARES = [trimmed_mean, median], [multi_krum, geometric_median]


def updates(count: int, size: int, seed: int = 0) -> list[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return [rng.normal(1.0, 0.3, size).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
def test_median_and_trimmed_mean_are_those_of_numpy_and_scipy(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robust, "CHUNK", 50)  # many pieces
    given_ = updates(count, 333)
    stack = np.stack(given_).astype(np.float64)
    np.testing.assert_allclose(median(given_), np.median(stack, axis=0))
    share = liars_among(count) / count + 1e-12
    np.testing.assert_allclose(trimmed_mean(given_), trim_mean(stack, share, axis=0))


def test_multi_krum_is_its_definition() -> None:
    given_, weights = updates(10, 40), np.arange(1.0, 11)
    given_[3] = -10 * given_[3]
    stack = np.stack(given_).astype(np.float64)
    apart = ((stack[:, None] - stack[None]) ** 2).sum(-1)
    scores = [np.sort(np.delete(apart[i], i))[: 10 - 3 - 2].sum() for i in range(10)]
    chosen = sorted(np.argsort(scores)[:7])
    shares = multi_krum(given_, weights)
    assert np.flatnonzero(shares).tolist() == chosen
    assert 3 not in chosen
    np.testing.assert_allclose(shares[chosen], weights[chosen] / weights[chosen].sum())


def test_the_geometric_median_is_the_minimum_of_the_sum_of_distances() -> None:
    given_, weights = updates(6, 5), np.array([1.0, 2, 1, 3, 1, 2])
    stack = np.stack(given_).astype(np.float64)

    def cost(point: NDArray[Any]) -> float:
        return float(weights @ np.linalg.norm(stack - point, axis=1))

    best = minimize(cost, stack.mean(0), method="Nelder-Mead", options={"maxiter": 20_000}).x
    found = geometric_median(given_, weights) @ stack
    assert cost(found) <= cost(best) * (1 + 1e-6)


@pytest.mark.parametrize("rule", [*COORDINATE, *SHARES])
@given(seed=st.integers(0, 20), size=st.sampled_from([-1e6, -3.0, 0.0, 1e6]))
def test_three_liars_of_ten_leave_the_estimate_near_the_honest_mean(
    rule: Rule, seed: int, size: float
) -> None:
    given_ = updates(10, 200, seed)
    honest = np.mean(given_[3:], axis=0)
    for i in range(3):
        given_[i] = (size * honest).astype(np.float32)
    found = rule(given_, np.ones(10))
    if rule in SHARES:
        found = found @ np.stack(given_)
    assert np.linalg.norm(found - honest) < 0.6 * np.linalg.norm(honest)


@pytest.mark.parametrize("rule", SHARES)
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shares_are_a_mean_for_any_number_of_clients(
    rule: Callable[..., NDArray[Any]], count: int
) -> None:
    shares = rule(updates(count, 30), np.ones(count))
    assert shares.shape == (count,)
    assert (shares >= 0).all()
    assert shares.sum() == pytest.approx(1)
    same = [np.zeros(4, np.float32)] * count
    assert np.isfinite(rule(same, np.ones(count))).all()


def test_buffers_of_one_client_do_not_become_everybodys() -> None:
    counts = [np.array(5), np.array(7), np.array(2**62), np.array(6)]
    assert middle_buffers(counts) == 6
    flags = [np.array([True, False]), np.array([True, True]), np.array([False, False])]
    assert middle_buffers(flags).tolist() == [True, False]
    assert middle_buffers(flags).dtype == np.bool_


def test_running_variances_are_known_by_the_names_of_three_frameworks() -> None:
    assert is_variance("bn.running_var")
    assert is_variance("block/bn/moving_variance")
    assert not is_variance("bn.running_mean")
    assert not is_variance("variance.weight")


@given(st.integers(0, 1000))
def test_liars_are_always_fewer_than_half(count: int) -> None:
    assert 0 <= liars_among(count) <= max(count - 1, 0) / 2
