"""Personalise and evaluate: what stays on the client, and what the app gets to evaluate."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from caafp_app.protocol.arrays import from_record, to_record
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.messages import HEADER, Action, Answer, ErrorCode
from tests.protocol.support import (
    Arrays,
    Node,
    Server,
    contents,
    identity,
    random_mask,
    same,
    training,
)

MODEL: Arrays = {
    "w": np.random.default_rng(0).standard_normal((6, 7)).astype(np.float32),
    "b": np.ones(6, np.float32),
    "steps": np.array(2),
}


def server() -> Server:
    return Server(MODEL, random_mask(Layout.of(MODEL), 0.5))


def shift(name: str, array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(array + array.dtype.type(1))


def personal(of: Server) -> Arrays:
    """What `shift` makes of the server's model, the mask put back."""
    layout = of.mask.layout
    flat = layout.flatten({name: shift(name, array) for name, array in of.arrays.items()})
    flat.weights[~of.mask.bits] = 0
    return layout.unflatten(flat)


class Scoring:
    """An app that trains by `shift`, and reports as a score what it was given."""

    def __init__(self) -> None:
        self.given: list[Arrays] = []

    def __call__(self, message: Message, context: Context) -> Message:
        self.given.append(contents(message.content.array_records["arrays"]))
        if message.metadata.message_type == "train":
            return training(shift)(message, context)
        message.content.array_records["arrays"].clear()  # as keep_input=False does
        metrics = MetricRecord({"num-examples": 4, "accuracy": 0.75})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)


def test_the_personal_model_is_kept_and_not_sent() -> None:
    of, node = server(), Node(training(shift))
    reply = node.ask(of.records(Action.PERSONALISE))
    assert set(reply.content) == {HEADER, "metrics"}
    answer = Answer.from_records(reply.content)
    assert answer.action is Action.PERSONALISE
    assert answer.outside == (~of.mask.bits).sum()
    assert not answer.arrays
    assert same(contents(node.context.state.array_records["caafp.personal"]), personal(of))


def test_the_personal_model_is_evaluated_again_and_again() -> None:
    of, app = server(), Scoring()
    node = Node(app)
    node.ask(of.records(Action.PERSONALISE))
    for full in (True, False, False):
        reply = node.ask(of.records(Action.EVALUATE_PERSONAL, full=full), "evaluate")
        assert set(reply.content) == {HEADER, "metrics"}
        assert reply.content["metrics"] == MetricRecord({"num-examples": 4, "accuracy": 0.75})
        assert Answer.from_records(reply.content).action is Action.EVALUATE_PERSONAL
        assert same(app.given[-1], personal(of))


def test_later_rounds_leave_the_personal_model_alone() -> None:
    of, app = server(), Scoring()
    node = Node(app)
    node.ask(of.records(Action.PERSONALISE))
    kept = personal(of)
    of.mask = random_mask(of.mask.layout, 0.2, seed=9)
    of.model.weights[:] = np.where(of.mask.bits, 5, 0)
    of.add(node.ask(of.records()))
    node.ask(of.records(Action.EVALUATE_PERSONAL, full=False), "evaluate")
    assert same(app.given[-1], kept)


def test_without_a_personal_model_there_is_none_to_evaluate() -> None:
    reply = Node(Scoring()).ask(server().records(Action.EVALUATE_PERSONAL), "evaluate")
    assert reply.error.code == ErrorCode.NOT_PERSONALISED
    assert "personalise it first" in (reply.error.reason or "")


def test_the_clusters_model_is_evaluated() -> None:
    of, app = server(), Scoring()
    reply = Node(app).ask(of.records(Action.EVALUATE), "evaluate")
    assert same(app.given[0], of.arrays)
    assert set(reply.content) == {HEADER, "metrics"}
    assert Answer.from_records(reply.content).mask_digest == of.mask.digest


@pytest.mark.parametrize("action", [Action.EVALUATE, Action.EVALUATE_PERSONAL])
def test_evaluation_keeps_the_users_arrays_and_returns_no_model(action: Action) -> None:
    of = server()
    node = Node(training(identity, extra={"confusion": to_record({"matrix": np.eye(3)})}))
    node.ask(of.records(Action.PERSONALISE))
    reply = node.ask(of.records(action), "evaluate")
    assert set(reply.content) == {HEADER, "metrics", "confusion"}
    assert from_record(reply.content, "confusion")["matrix"].trace() == 3

    def app(message: Message, context: Context) -> Message:
        return Message(RecordDict({"confusion": to_record({"m": np.eye(3)})}), reply_to=message)

    node.app = app
    assert set(node.ask(of.records(action), "evaluate").content) == {HEADER, "confusion"}
