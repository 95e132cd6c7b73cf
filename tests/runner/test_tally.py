"""Counting one exchange, and reading the metrics of somebody else's app."""

import pytest
from flwr.app import MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from caafp_app.runner.tally import Tally, pick
from caafp_app.runs.ledger import Ledger


def filled() -> Tally:
    tally = Tally("prune", 3, asked=["b", "a", "c", "d"])
    tally.keep("b", RecordDict({"m": MetricRecord({"accuracy": 0.5, "loss": 2.0})}))
    tally.keep("a", RecordDict({"m": MetricRecord({"accuracy": 1.0, "loss": float("nan")})}))
    tally.refusals["c"] = "no"
    tally.missing = ("d",)
    return tally


def test_a_record_sums_an_exchange_up() -> None:
    record = filled().record(Ledger(), {0: 0.3})
    assert (record.round, record.phase) == (3, "prune")
    assert (record.asked, record.answered, record.refused, record.missing) == (4, 2, 1, ("d",))
    assert record.reasons == {"no": 1}
    assert record.accuracy == 0.75
    assert record.loss == 2.0  # of the one that knows it
    assert record.density == {0: 0.3}
    assert record.seconds >= 0


def test_metrics_unlike_the_others_are_left_out() -> None:
    tally = Tally("prune", 1, asked=["a", "b", "c"])
    for label, value in (("a", 1.0), ("b", [1.0, 2.0]), ("c", 3.0)):
        tally.keep(label, RecordDict({"m": MetricRecord({"accuracy": value, "n": 1})}))
    found = tally.aggregate(aggregate_metricrecords, "n")
    assert found == MetricRecord({"accuracy": 2.0})


def test_metrics_come_in_the_order_of_labels() -> None:
    seen: list[list[float]] = []

    def function(records: list[RecordDict], key: str) -> MetricRecord:
        seen.append([record["m"]["accuracy"] for record in records])
        return MetricRecord({"n": len(records)})

    assert filled().aggregate(function, "k") == MetricRecord({"n": 2})
    assert seen == [[1.0, 0.5]]
    assert list(filled().metrics()) == ["a", "b"]
    assert Tally("prune", 1, asked=["a"]).aggregate(function, "k") is None
    assert Tally("prune", 1, asked=["a"]).mean("accuracy") is None


def test_all_failed_means_that_everybody_answered_with_a_failure() -> None:
    assert not Tally("p", 1).all_failed
    assert not Tally("p", 1, asked=["a", "b"], refusals={"a": "x"}).all_failed
    assert Tally("p", 1, asked=["a", "b"], refusals={"a": "x", "b": "y"}).all_failed


@pytest.mark.parametrize(
    ("metrics", "kind", "model", "expected"),
    [
        ({"cluster-accuracy": 0.5, "personal-accuracy": 0.7}, "accuracy", "cluster", 0.5),
        ({"cluster-accuracy": 0.5, "personal-accuracy": 0.7}, "accuracy", "personal", 0.7),
        ({"cluster-accuracy": 0.5}, "accuracy", "personal", None),
        ({"personal-loss": 0.5}, "loss", "cluster", None),
        ({"eval_acc": 0.5, "eval_loss": 1.5}, "accuracy", "cluster", 0.5),
        ({"eval_acc": 0.5, "eval_loss": 1.5}, "loss", "personal", 1.5),
        ({"Accuracy": 1}, "accuracy", "cluster", 1.0),
        ({"train_loss": 0.1, "loss": 0.2}, "loss", "cluster", 0.2),
        ({"train-loss": 0.1}, "loss", "cluster", None),
        ({"acc": [0.1, 0.2]}, "accuracy", "cluster", None),
        ({}, "loss", "cluster", None),
    ],
)
def test_scores_are_found_under_the_names_that_people_use(
    metrics: dict[str, float], kind: str, model: str, expected: float | None
) -> None:
    assert pick(MetricRecord(metrics), kind, model) == expected
