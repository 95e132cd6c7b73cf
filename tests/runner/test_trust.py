"""How far one client may move a model."""

import math

import numpy as np
import pytest

from caafp_app.errors import ProtocolError
from caafp_app.protocol.layout import FlatModel
from caafp_app.runner.trust import (
    MODEL_SHARE,
    NORM_FACTOR,
    RECENT,
    NormBound,
    largest_weight,
)


def model(norm: float) -> FlatModel:
    return FlatModel(np.array([norm, 0], np.float32), np.zeros(1, np.float32), {})


def test_the_bound_follows_the_median_of_the_cluster_in_its_last_rounds() -> None:
    bound = NormBound()
    assert bound.limit(0, model(2.0)) == 2 * NORM_FACTOR
    assert bound.limit(0, model(0.0)) == math.inf
    for norm in (5.0, 1.0, 3.0):
        bound.note(0, norm)
        assert bound.limit(0, model(2.0)) == 2 * NORM_FACTOR  # the round goes on
    bound.end_round()
    assert bound.limit(0, model(2.0)) == 3 * NORM_FACTOR
    assert bound.limit(1, model(2.0)) == 3 * NORM_FACTOR  # of all, while it has none of its own
    bound.note(1, 7.0)
    bound.end_round()
    assert bound.limit(1, model(2.0)) == 7 * NORM_FACTOR
    for _ in range(RECENT):
        bound.note(0, 0.5)
        bound.end_round()
    assert bound.limit(0, model(2.0)) == 0.5 * NORM_FACTOR
    # An update is not long that is short beside the model.
    assert bound.limit(0, model(500.0)) == pytest.approx(500 * MODEL_SHARE)
    restored = NormBound()
    restored.restore(bound.state())
    for cluster in (0, 1, 2):
        assert restored.limit(cluster, model(2.0)) == bound.limit(cluster, model(2.0))


def test_a_longer_update_is_refused_with_what_was_expected() -> None:
    bound = NormBound(2.0)
    bound.check(0, 2.0, model(1.0))
    with pytest.raises(ProtocolError, match=r"norm at most 2, found 2\.01.*set max_update_norm"):
        bound.check(0, 2.01, model(1.0))


def test_nobody_weighs_more_than_so_many_median_clients() -> None:
    assert largest_weight([10, 20, 30, -1, 10**9], 10.0) == 250.0
    assert largest_weight([10, 20], 0.0) == math.inf
    assert largest_weight([-1, 0], 10.0) == math.inf
    assert largest_weight([1], 0.5) == 1.0
