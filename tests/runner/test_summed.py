"""The sums of a query, against plain numpy."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.messages import Action
from caafp_app.pruning.evidence import Evidence
from caafp_app.registry import AGGREGATIONS
from caafp_app.runner.query import Query
from caafp_app.runner.summed import Summed
from tests.runner.support import add, model_of, sums_of, updates_for


def mean(parts: list[NDArray[Any]], weights: list[float]) -> NDArray[Any]:
    return np.average(np.array(parts, np.float64), axis=0, weights=weights)


def all_of(summed: Summed) -> list[bytes]:
    """Everything that follows from the sums, as bytes."""
    update = summed.mean()
    evidence = Evidence(summed.update.size)
    evidence.add_round(summed.update, summed.sums)
    whole = slice(0, evidence.size)
    arrays = (update.values, update.rest, update.other["steps"], summed.gradient.mean())
    scores = (evidence.variance(whole), evidence.sign_agreement(whole))
    return [part.tobytes() for part in (*arrays, *scores)]


@pytest.mark.parametrize("density", [1.0, 0.5])
def test_the_mean_is_weighted_and_moves_the_model(density: float) -> None:
    model = model_of(density)
    sent = updates_for(model)
    summed = sums_of(model, sent)
    found, weights = summed.mean(), [weight for _, _, weight in sent]
    assert (summed.replies, found.weight) == (5, sum(weights))
    values = mean([u.values for _, u, _ in sent], weights)
    rest = mean([u.rest for _, u, _ in sent], weights)
    np.testing.assert_allclose(found.values, values, atol=1e-9)
    np.testing.assert_allclose(found.rest, rest, atol=1e-9)
    moved, bits = model.moved(found).flat, model.mask.bits
    np.testing.assert_allclose(moved.weights[bits], model.flat.weights[bits] + values, rtol=1e-6)
    assert not moved.weights[~bits].any()
    np.testing.assert_allclose(moved.rest, model.flat.rest + rest, rtol=1e-6)
    assert moved.other["steps"] == 12  # the median over clients


def test_the_order_of_replies_does_not_show() -> None:
    model = model_of()
    sent = updates_for(model)
    shuffled = [sent[k] for k in (3, 1, 4, 0, 2)]
    for rule in AGGREGATIONS.builtin:
        one, other = (sums_of(model, some, rule) for some in (sent, shuffled))
        assert all_of(one) == all_of(other)


def test_a_robust_rule_is_of_the_held_replies() -> None:
    model = model_of()
    sent = updates_for(model)
    found = sums_of(model, sent, "median").mean()
    stacked = np.stack([update.values for _, update, _ in sent]).astype(np.float64)
    np.testing.assert_array_equal(found.values, np.median(stacked, axis=0))


def test_without_replies_there_is_no_mean() -> None:
    for rule in AGGREGATIONS.builtin:
        assert sums_of(model_of(), [], rule).mean() is None


@pytest.mark.parametrize("part", ["values", "rest", "gradient"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_bad_update_enters_all_sums_or_none(part: str, value: float) -> None:
    model = model_of()
    sent = updates_for(model)
    summed = sums_of(model, sent[:3])
    ((_, spoiled, _),) = updates_for(model, count=1, seed=9)
    array = spoiled.gradient.value if part == "gradient" else getattr(spoiled, part)
    array[-1] = value
    with pytest.raises(ProtocolError):
        add(summed, "bad", spoiled, 50.0)
    assert summed.replies == 3
    for label, update, weight in sent[3:]:
        add(summed, label, update, weight)
    assert all_of(summed) == all_of(sums_of(model, sent))


@pytest.mark.parametrize("adds", [True, False])
def test_what_is_kept_of_each_stands_beside_the_sum_or_in_its_place(adds: bool) -> None:
    model = model_of()
    query = Query(
        Action.TRAIN, model, (), each=lambda update: float(update.values.sum()), adds=adds
    )
    summed = Summed(query, AGGREGATIONS["mean"])
    sent = updates_for(model)
    for label, update, weight in sent:
        add(summed, label, update, weight)
    assert summed.kept == {label: float(update.values.sum()) for label, update, _ in sent}
    assert (summed.mean() is not None) == adds


def test_an_evaluation_takes_no_memory_for_sums() -> None:
    summed = Summed(Query(Action.EVALUATE, model_of(), ()), AGGREGATIONS["mean"])
    assert (summed.update.size, summed.rest.size, summed.gradient) == (0, 0, None)
