from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from caafp_app.errors import ProtocolError
from caafp_app.protocol.messages import (
    HEADER,
    MAX_EXAMPLES,
    RESERVED,
    Action,
    Answer,
    ErrorCode,
    Request,
)
from caafp_app.protocol.payload import detached
from tests.protocol.support import by_wire, same

ARRAYS_SENT = {"values": np.arange(3, dtype=np.float32), "rest": np.ones(2, np.float32)}
REQUEST = Request(
    Action.TRAIN,
    round=4,
    seed=11,
    phase="prune",
    cluster=2,
    mask_digest="0123456789abcdef",
    down="float16",
    up="int8",
    rest="float32",
    arrays=ARRAYS_SENT,
    layout=b"[]",
    mask=np.array([7], np.uint8),
    mask_base="fedcba9876543210",
    gradient_counts=(3, 0),
    evaluate=True,
    arrays_key="model",
    config_key="config",
)
ANSWER = Answer(
    "user-07",
    action=Action.TRAIN,
    round=4,
    mask_digest="0123456789abcdef",
    arrays=ARRAYS_SENT
    | {"gradient-index": np.zeros(1, np.uint8), "gradient-value": np.ones(1, np.float16)},
    gradient_scale=0.25,
    outside=9,
)
DESCRIPTION = Answer("user-07", 100, 30, "no data for this client", action=Action.DESCRIBE, round=0)
EVALUATED = Answer("c", action=Action.EVALUATE, round=3, mask_digest="d")


def assert_equal(one: Any, two: Any) -> None:
    for field in fields(one):
        if field.name == "arrays":
            assert same(one.arrays, two.arrays)
        elif field.name == "mask":
            np.testing.assert_array_equal(one.mask, two.mask)
        else:
            assert getattr(one, field.name) == getattr(two, field.name), field.name


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        Request(Action.TRAIN, 1, mask_digest="d", arrays=ARRAYS_SENT),
        Request(Action.EVALUATE_PERSONAL, 9, mask_digest="d"),
        Request(Action.DESCRIBE, seed=3, phase="describe"),
    ],
)
def test_a_request_survives_the_wire(request_: Request) -> None:
    assert_equal(Request.from_records(by_wire(request_.to_records())), request_)


@pytest.mark.parametrize("answer", [ANSWER, DESCRIPTION, EVALUATED])
def test_an_answer_survives_the_wire(answer: Answer) -> None:
    assert_equal(Answer.from_records(by_wire(answer.to_records())), answer)


def test_what_is_at_its_default_does_not_travel() -> None:
    plain = detached(Request(Action.TRAIN, 1, mask_digest="d", arrays=ARRAYS_SENT).to_records())
    assert set(plain[HEADER]) == {
        *("version", "action", "round", "seed", "phase"),
        *("cluster", "mask-digest", "codecs", "evaluate"),
    }
    assert set(Request(Action.DESCRIBE).to_records()) == {HEADER}
    answer = EVALUATED.to_records()
    assert set(answer) == {HEADER}
    assert set(answer[HEADER]) == {"version", "action", "round", "label", "mask-digest"}


def altered(records: RecordDict, key: str, value: Any) -> RecordDict:
    changed: dict[str, Any] = dict(records[HEADER])
    if value is None:
        del changed[key]
    else:
        changed[key] = value
    return RecordDict({**records, HEADER: ConfigRecord(changed)})


WRONG: dict[str, list[Any]] = {
    "version": [None, 2, 0, "1", True],
    "action": [None, "steal", 1, b"train"],
    "round": [None, -1, "4", 4.0, True],
    "seed": [None, -1, "4"],
    "phase": [None, 1, "x" * 1001],
    "cluster": [None, -2, "1", True],
    "mask-digest": [7, b"d", "x" * 1001],
    "codecs": [
        None,
        ["float32"],
        ["float32", "float32", "float8"],
        [1, 2, 3],
        "float32",
        [*["int8"] * 4],
    ],
    "evaluate": [None, 1, "yes"],
    "layout": ["[]", 1, [b"x"]],
    "mask-base": [1, b"d"],
    "gradient-counts": [[-1, 0], ["3"], 3, [0.5], [True]],
    "arrays-key": [1, *RESERVED],
    "config-key": [1, b"config"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in WRONG for value in WRONG[key]])
def test_every_field_of_a_request_is_checked(key: str, value: Any) -> None:
    with pytest.raises(ProtocolError, match=r"header|version"):
        Request.from_records(altered(REQUEST.to_records(), key, value))


WRONG_ANSWER: dict[str, list[Any]] = {
    "version": WRONG["version"],
    "action": WRONG["action"],
    "round": WRONG["round"],
    "label": [None, 3, b"c", "x" * 1001],
    "mask-digest": [1],
    "gradient-scale": [1, "1", float("nan"), float("inf")],
    "examples": [-2, "9", 0.5, True, MAX_EXAMPLES + 1],
    "population": [-2, "9", MAX_EXAMPLES + 1],
    "idle": [1, "x" * 1001],
    "outside": [-2, "0", False],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key in WRONG_ANSWER for value in WRONG_ANSWER[key]]
)
def test_every_field_of_an_answer_is_checked(key: str, value: Any) -> None:
    with pytest.raises(ProtocolError, match=r"header|version"):
        Answer.from_records(altered(ANSWER.to_records(), key, value))


def test_every_field_of_both_was_tried() -> None:
    assert set(WRONG) == set(detached(REQUEST.to_records())[HEADER])
    sent = {*detached(ANSWER.to_records())[HEADER], *DESCRIPTION.to_records()[HEADER]}
    assert set(WRONG_ANSWER) == sent


def test_a_request_without_a_model_describes() -> None:
    records = altered(REQUEST.to_records(), "mask-digest", None)
    with pytest.raises(ProtocolError, match="train needs a model"):
        Request.from_records(records)


def test_arrays_are_checked_too() -> None:
    records = ANSWER.to_records()
    records.config_records[HEADER]["@<f4:3:values"] = b"junk"
    with pytest.raises(ProtocolError, match="'values'"):
        Answer.from_records(records)


def test_error_codes_are_not_flowers() -> None:
    assert [int(code) for code in ErrorCode] == [470, 471, 472, 473]
