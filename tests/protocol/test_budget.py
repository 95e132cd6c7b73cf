"""What a reply may carry besides its arrays."""

import time

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from caafp_app.errors import ProtocolError
from caafp_app.protocol.budget import check_budget
from caafp_app.protocol.entry import Entry
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import FREE_WEIGHTS, Mask
from caafp_app.protocol.messages import Action, Answer


def reply(**records: MetricRecord | ConfigRecord | ArrayRecord) -> RecordDict:
    content = Answer("a", action=Action.TRAIN, round=1).to_records()
    content.update(records)
    return content


def test_an_ordinary_reply_passes() -> None:
    check_budget(
        reply(
            metrics=MetricRecord({"accuracy": 0.5, "per-class": [0.1] * 1000}),
            notes=ConfigRecord({"what": "text" * 1000}),
            arrays=ArrayRecord([np.zeros(1 << 20)]),
        )
    )


@pytest.mark.parametrize(
    "record",
    [
        MetricRecord({f"m{i}": 0.0 for i in range(100_000)}),
        MetricRecord({"m": [0.0] * 4_000_000}),
        MetricRecord({"m" * 201: 0.0}),
        ConfigRecord({"c": b"x" * 30_000_000}),
        ConfigRecord({"c": ["x" * 100_000] * 30}),
    ],
    ids=["names", "numbers", "name", "bytes", "texts"],
)
def test_more_than_any_app_needs_is_refused_at_once(record: MetricRecord | ConfigRecord) -> None:
    content = reply(other=record)
    began = time.thread_time()
    with pytest.raises(ProtocolError, match="expected"):
        check_budget(content)
    assert time.thread_time() - began < 0.5


def test_too_many_records_are_refused() -> None:
    with pytest.raises(ProtocolError, match="records"):
        check_budget(reply(**{f"r{i}": MetricRecord({}) for i in range(100)}))


def test_an_almost_empty_mask_of_a_billion_weights_is_refused_before_it_is_unpacked() -> None:
    size = 1 << 30
    layout = Layout((Entry("w", (size,), "float32", prunable=True),))
    packed = np.zeros(size // 8, np.uint8)
    packed[:100] = 255
    with pytest.raises(ProtocolError, match="at least one active weight in 32"):
        Mask.unpack(layout, packed)


def test_a_small_mask_may_be_empty_and_a_large_one_sparse() -> None:
    small = Layout((Entry("w", (64,), "float32", prunable=True),))
    assert Mask.unpack(small, np.zeros(8, np.uint8)).count == 0
    size = FREE_WEIGHTS + 8
    large = Layout((Entry("w", (size,), "float32", prunable=True),))
    assert Mask.unpack(large, np.full(size // 8, 1, np.uint8)).count == size // 8
