"""What a device's log says of a message."""

import logging
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from caafp_app.devices.saying import say


def said(
    caplog: pytest.LogCaptureFixture,
    header: dict[str, Any],
    metrics: dict[str, float] | Error,
    **node: Any,
) -> str:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    message = Message(RecordDict({"caafp": ConfigRecord(header)}), 1, "train")

    def answer(message: Message, context: Context) -> Message:
        if isinstance(metrics, Error):
            return Message(metrics, reply_to=message)
        return Message(RecordDict({"metrics": MetricRecord(dict(metrics))}), reply_to=message)

    with caplog.at_level(logging.INFO, "flwr"):
        say(message, Context(1, 1, node, RecordDict(), {}), answer)
    return caplog.text


def test_a_training_message_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    metrics = {"num-examples": 240, "cluster-accuracy": 0.8167, "train-loss": 0.41}
    text = said(caplog, {"action": "train", "round": 12}, metrics, **{"data-path": "x"})
    assert "round 12, train: 240 windows, accuracy of the received model 81.7 %" in text
    assert "training loss 0.410, 0.0 s, 0." in text
    assert text.count("\n") == 1
    metrics = {"num-examples": 5, "cluster-accuracy": 0.5, "personal-accuracy": 1.0}
    text = said(caplog, {"action": "personalise", "round": 3}, metrics, **{"data-path": "x"})
    assert "accuracy 50.0 % before, 100.0 % after" in text


def test_an_error_is_said_without_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    error = Error(472, "bad\n\x1b[31mline")
    text = said(caplog, {"action": "train", "round": 1}, error, **{"data-path": "x"})
    assert "round 1, train: error 472: bad\\n\\x1b[31mline" in text


def test_what_a_server_wrote_is_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    text = said(caplog, {"action": "\x1b[2Jevil", "round": "x"}, {}, **{"data-path": "x"})
    assert "evil" not in text
    assert "train: " in text


def test_a_simulated_client_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    assert said(caplog, {"action": "train", "round": 1}, {}, **{"partition-id": 0}) == ""
