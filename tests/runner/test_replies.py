"""Numbers and texts of a reply, one by one; whole replies are in test_bad_replies."""

import math

import pytest
from flwr.app import Error, Message, MessageType, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.errors import ProtocolError
from caafp_app.runner.replies import MAX_WEIGHT, failure, read_metrics, read_weight


def request() -> Message:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    return Message(RecordDict(), 5, MessageType.TRAIN)


@given(st.one_of(st.floats(), st.integers(-(2**60), 2**60)))
def test_a_weight_is_not_negative_finite_and_bounded(value: float) -> None:
    metrics = MetricRecord({"num-examples": value})
    if math.isfinite(value) and 0 <= value <= MAX_WEIGHT:
        assert read_weight(metrics, "num-examples") == float(value)
    else:
        with pytest.raises(ProtocolError, match="'num-examples': expected a number from 0"):
            read_weight(metrics, "num-examples")


@pytest.mark.parametrize("metrics", [{}, {"n": 3}, {"num-examples": [3]}, {"num-examples": [0.5]}])
def test_a_weight_is_one_number_under_its_key(metrics: dict[str, int]) -> None:
    with pytest.raises(ProtocolError, match="expected one number"):
        read_weight(MetricRecord(metrics), "num-examples")


def test_metrics_are_one_record() -> None:
    one = Message(RecordDict({"m": MetricRecord({"a": 1})}), reply_to=request())
    assert read_metrics(one) == MetricRecord({"a": 1})
    for records in (RecordDict(), RecordDict({"m": MetricRecord(), "n": MetricRecord()})):
        with pytest.raises(ProtocolError, match="expected one MetricRecord"):
            read_metrics(Message(records, reply_to=request()))


def test_a_metric_may_be_unknown_or_infinite() -> None:
    def metrics(**values: object) -> MetricRecord:
        records = RecordDict({"m": MetricRecord({"num-examples": 3, **values})})
        return read_metrics(Message(records, reply_to=request()))

    unknown = metrics(accuracy=math.nan, losses=[1.0, math.nan])["accuracy"]
    assert isinstance(unknown, float)
    assert math.isnan(unknown)
    for value in (math.inf, -math.inf, [1.0, math.inf]):
        assert metrics(perplexity=value)["perplexity"] == value


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (470, "mask 12 is not held here", "mask-unknown: mask 12 is not held here"),
        (472, "", "client-failed: no reason given"),
        (2, "Traceback:\n  File 1\nValueError: bad data\n", "error 2: ValueError: bad data; "),
        (2, "KeyError: 'arrays'", "among the mods of the whole ClientApp"),
        (6, "LocalDpMod expects exactly one ArrayRecord", "put it after, as in ClientApp("),
    ],
)
def test_an_error_is_told_by_its_name_and_reason(code: int, reason: str, expected: str) -> None:
    failed = failure(Message(Error(code, reason), reply_to=request()))
    assert failed[0] == code
    assert expected in failed[1]
    assert len(failed[1].splitlines()) == 1


def test_a_reply_with_content_is_no_error() -> None:
    assert failure(Message(RecordDict(), reply_to=request())) is None


def test_a_reason_of_any_length_is_cut() -> None:
    failed = failure(Message(Error(472, "x" * 10**6), reply_to=request()))
    assert len(failed[1]) < 2000
