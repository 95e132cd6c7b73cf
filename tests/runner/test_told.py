"""One client's numbers: what cannot be is not known, and none decides a mean alone."""

import math

import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.errors import ProtocolError
from caafp_app.runner.tally import Tally
from caafp_app.runner.told import believed, bounded, class_counts, usual

HONEST = {f"c{k}": 0.80 + k / 100 for k in range(9)}


def test_a_share_and_a_loss_that_cannot_be_are_not_known() -> None:
    for lie in (2.0, -1.0, 1.7e307, math.inf, math.nan):
        assert believed("held-trained-accuracy", {**HONEST, "liar": lie}) == HONEST
    for lie in (-1e300, 1e7, math.inf):
        assert believed("loss", {"a": 0.5, "liar": lie}) == {"a": 0.5}
    percent = {"a": 81.0, "b": 79.0}
    assert believed("acc", {**percent, "liar": 1e9}) == percent
    assert believed("revenue", {"a": 1e9, "b": math.nan}) == {"a": 1e9}
    assert believed("accuracy", {"a": math.nan}) == {}


def tally_of(lie: dict[str, float | list[float]]) -> Tally:
    tally = Tally("train", 1, asked=[*HONEST, "liar"])
    for label, value in HONEST.items():
        told = {"num-examples": 40, "accuracy": value, "loss": 1 - value, "by-class": [value, 1.0]}
        tally.keep(label, RecordDict({"m": MetricRecord(told)}))
    usual = {"num-examples": 40, "accuracy": 0.8, "loss": 0.2, "by-class": [0.8, 1.0]}
    tally.keep("liar", RecordDict({"m": MetricRecord({**usual, **lie})}))
    return tally


@given(
    share=st.floats(),
    loss=st.floats(),
    examples=st.one_of(st.integers(1, 10**15), st.floats(1e-6, 1e15)),
    part=st.floats(),
)
def test_one_liar_of_ten_moves_no_mean_of_metrics_far(
    share: float, loss: float, examples: float, part: float
) -> None:
    lie = {"num-examples": examples, "accuracy": share, "loss": loss, "by-class": [part, part]}
    tally = tally_of(lie)
    found = tally.aggregate(aggregate_metricrecords, "num-examples", robust=True)
    honest = sum(HONEST.values()) / 9
    accuracy, told_loss, parts = found["accuracy"], found["loss"], found["by-class"]
    assert isinstance(accuracy, float)
    assert isinstance(told_loss, float)
    assert isinstance(parts, list)
    assert abs(accuracy - honest) <= honest / 10 + 1e-9
    # At most ten times the median, or 1, at a tenth of the weight.
    assert abs(told_loss) <= 0.9 * 0.2 + 0.2 + 1e-9
    assert all(abs(value) <= 2.0 for value in parts)
    assert tally.metrics()["liar"]["accuracy"] == pytest.approx(share, nan_ok=True)
    mean = tally.mean("accuracy")
    assert 0 <= mean <= 1


def test_honest_metrics_of_equal_weight_stay_as_they_are() -> None:
    tally = tally_of({})
    plain = tally.aggregate(aggregate_metricrecords, "num-examples")
    assert tally.aggregate(aggregate_metricrecords, "num-examples", robust=True) == plain


def test_too_few_clients_have_no_median_and_what_most_say_stands() -> None:
    two = [MetricRecord({"n": 1, "x": 1e9}), MetricRecord({"n": 1, "x": 1.0})]
    assert bounded(two, "n") == two
    perplexity = [MetricRecord({"n": 1, "x": math.inf})] * 2 + [MetricRecord({"n": 1, "x": 1.0})]
    assert [one["x"] for one in bounded(perplexity, "n")] == [math.inf, math.inf, 1.0]


@pytest.mark.parametrize(
    ("told", "examples"),
    [
        *[([1, 2, 3], 6), ([5, -1, 0, 2], 6), ([1.0, 2.0, 0.0, 3.0], 6), ([1, 2, 0, 3], 7)],
        *[(6, 6), ([2 * 10**9, 0, 0, 0], 2e9), ([2**63 - 1, 2**63 - 1, 2, 6], 6)],
    ],
)
def test_counts_of_classes_are_whole_of_the_right_shape_and_add_up(
    told: int | list[int] | list[float], examples: float
) -> None:
    metrics = MetricRecord({"personal-confusion": told})
    with pytest.raises(ProtocolError, match="expected 2 x 2 whole numbers"):
        class_counts(metrics, "personal", 2, examples)
    assert class_counts(metrics, "cluster", 2, examples) is None
    honest = MetricRecord({"confusion": [1, 2, 0, 3]})
    found = class_counts(honest, "cluster", 2, 6.0)
    assert found.tolist() == [[1, 2], [0, 3]]


def test_no_client_has_many_times_more_windows_than_most() -> None:
    counts = {label: np.full((2, 2), size) for label, size in zip("abc", (1, 2, 20), strict=True)}
    assert usual(counts).keys() == {"a", "b", "c"}
    assert usual({**counts, "c": np.full((2, 2), 21)}).keys() == {"a", "b"}
    assert usual({"a": counts["a"], "c": np.full((2, 2), 900)}).keys() == {"a", "c"}
