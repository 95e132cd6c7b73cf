"""The mod around apps that know nothing of it, and around one that does."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from caafp_app.errors import DataError
from caafp_app.protocol.arrays import to_record
from caafp_app.protocol.description import Description, describe_node
from caafp_app.protocol.held import current_request, held_digest
from caafp_app.protocol.messages import HEADER, Action, Answer, ErrorCode, Request
from caafp_app.protocol.mod import SparseMod
from caafp_app.protocol.packing import pack_trials
from caafp_app.protocol.payload import attached
from tests.protocol.support import (
    Arrays,
    Node,
    Record,
    Server,
    contents,
    drift,
    equal,
    failed,
    identity,
    model,
    repacked,
    same,
    sparse_server,
    training,
)


def test_a_config_of_the_round_alone_is_made_here() -> None:
    seen: list[dict[str, Any]] = []

    def app(message: Message, context: Context) -> Message:
        seen.append({name: dict(r) for name, r in message.content.config_records.items()})
        return training(identity)(message, context)

    records = sparse_server().request(config_key="hyper").to_records()
    assert Node(app).ask(records).has_content()
    assert seen[0]["hyper"] == {"server-round": 1}
    records["hyper"] = ConfigRecord({"lr": 0.5})  # a mod on the way may have made one
    Node(app).ask(records)
    assert seen[1]["hyper"] == {"lr": 0.5}


@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_the_app_gets_the_dense_model_and_the_server_its_update(density: float) -> None:
    server = sparse_server(density)
    seen: list[Arrays] = []

    def app(message: Message, context: Context) -> Message:
        assert list(message.content.array_records) == ["arrays"]
        seen.append(contents(message.content.array_records["arrays"]))
        return training(drift)(message, context)

    before = server.arrays
    answer = server.add(Node(app).ask(server.records()))
    assert same(seen[0], before)
    after = server.arrays
    moved = {name: drift(name, array) for name, array in before.items()}
    expected = server.mask.layout.flatten(moved)
    inside = server.mask.bits
    np.testing.assert_allclose(server.model.weights[inside], expected.weights[inside], rtol=1e-6)
    assert not server.model.weights[~inside].any()
    np.testing.assert_allclose(after["bias"], moved["bias"], rtol=1e-6)
    assert after["steps"] == 4
    assert answer.label == "c7"
    assert answer.action is Action.TRAIN
    assert answer.round == 1
    assert answer.mask_digest == server.mask.digest


def test_nonzero_weights_outside_the_mask_are_counted() -> None:
    server = sparse_server()
    reply = Node(training(drift)).ask(server.records())
    layout = server.mask.layout
    moved = layout.flatten({name: drift(name, array) for name, array in server.arrays.items()})
    outside = int(np.count_nonzero(moved.weights[~server.mask.bits]))
    assert Answer.from_records(reply.content).outside == outside > 0
    kept = Node(training(lambda name, array: np.asarray(array * 2))).ask(server.records())
    assert Answer.from_records(kept.content).outside == 0


def test_mask_and_layout_are_sent_once() -> None:
    server, node = sparse_server(), Node(training(drift))
    assert node.ask(server.records()).has_content()
    assert held_digest(node.context) == server.mask.digest
    assert node.ask(server.records(full=False)).has_content()
    node.context.state = RecordDict()  # the process died
    lost = node.ask(server.records(full=False))
    assert failed(lost, ErrorCode.MASK_UNKNOWN, "no model layout")
    assert node.ask(server.records()).has_content()


def test_user_records_pass_both_ways() -> None:
    server = sparse_server()
    records = server.records()
    records["history"] = MetricRecord({"losses": [0.5, 0.25]})
    records["extra-arrays"] = to_record({"x": np.arange(3)})
    extra: dict[str, Record] = {
        "more": MetricRecord({"per-class": [1, 2, 3]}),
        "notes": ConfigRecord({"note": "done"}),
        "embedding": to_record({"e": np.ones((2, 2))}),
    }

    def app(message: Message, context: Context) -> Message:
        assert message.content["config"] == ConfigRecord({"lr": 0.1})
        assert message.content["history"] == MetricRecord({"losses": [0.5, 0.25]})
        assert contents(message.content.array_records["extra-arrays"])["x"].tolist() == [0, 1, 2]
        return training(drift, extra=extra)(message, context)

    reply = Node(app).ask(records)
    assert set(reply.content) == {HEADER, "metrics", *extra}
    assert reply.content["metrics"] == MetricRecord({"num-examples": 10, "loss": 0.5})
    for name, record in extra.items():
        assert reply.content[name] == record


def test_the_app_finds_what_was_asked_in_the_context() -> None:
    server = sparse_server()
    asked: list[Request] = []

    def app(message: Message, context: Context) -> Message:
        request = current_request(context)
        asked.append(request)
        assert list(message.content) == ["arrays", "config"]
        return training(drift)(message, context)

    node = Node(app)
    node.ask(server.records(evaluate=True, gradient_counts=(1, 2)))
    assert current_request(node.context) is None
    assert asked[0].evaluate
    assert asked[0].gradient_counts == (1, 2)
    assert (asked[0].round, asked[0].phase) == (1, "prune")
    assert not asked[0].arrays


def test_other_names_of_the_arrays() -> None:
    server = sparse_server()
    reply = Node(training(drift, name="weights")).ask(server.records(arrays_key="weights"))
    assert not reply.content.array_records

    def renamed(message: Message, context: Context) -> Message:
        reply = training(drift)(message, context)
        reply.content["trained"] = reply.content.pop("arrays")
        return reply

    reply = Node(renamed).ask(server.records())
    assert not reply.content.array_records
    assert server.add(reply).arrays["values"].any()


def test_arrays_in_another_order_and_float() -> None:
    server = sparse_server()

    def app(message: Message, context: Context) -> Message:
        reply = training(drift)(message, context)
        arrays = contents(reply.content.array_records["arrays"])
        turned = {
            n: a.astype(np.float64) if a.dtype.kind == "f" else a
            for n, a in reversed(arrays.items())
        }
        reply.content["arrays"] = to_record(turned)
        return reply

    one, other = (Node(a).ask(server.records()).content for a in (app, training(drift)))
    assert same(attached(one), attached(other))


def test_an_app_that_echoes_the_message_has_learnt_nothing() -> None:
    server = sparse_server()
    before = server.arrays

    def app(message: Message, context: Context) -> Message:
        message.content["metrics"] = MetricRecord({"num-examples": 1})
        return Message(message.content, reply_to=message)

    reply = Node(app).ask(server.records())
    server.add(reply)
    assert equal(server.arrays, before)
    assert set(reply.content) == {HEADER, "metrics", "config"}


def test_each_trial_is_evaluated_as_a_model_of_its_own() -> None:
    server, seen = sparse_server(), []

    def app(message: Message, context: Context) -> Message:
        arrays = contents(message.content.array_records["arrays"])
        seen.append(float(sum(np.abs(a).sum() for a in arrays.values() if a.dtype.kind == "f")))
        metrics = MetricRecord({"num-examples": 3, "loss": seen[-1], "alike": 0.5})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    kept = np.random.default_rng(0).random((3, server.mask.count)) < 0.5
    records = server.request(Action.EVALUATE, trials=pack_trials(kept)).to_records()
    reply = Node(app).ask(records, "evaluate")
    values = np.abs(server.mask.select(server.model.weights)).astype(float)
    lost = [seen[0] - one for one in seen]
    assert lost == pytest.approx([values @ (1.0 * kept[0] - one) for one in kept], abs=1e-4)
    metrics = reply.content.metric_records["metrics"]
    assert metrics == {"num-examples": 3, "loss": seen, "alike": 0.5}

    bad = server.request(Action.EVALUATE, trials=pack_trials(kept[:, 8:])).to_records()
    assert failed(Node(app).ask(bad, "evaluate"), ErrorCode.BAD_REQUEST, "trials: expected")


# -- failures ------------------------------------------------------------------------------------


def raising(error: Exception) -> Any:
    def app(message: Message, context: Context) -> Message:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("no batches"), "ZeroDivisionError: no batches"),
        (DataError("no such folder"), "no such folder"),
        (ValueError("x" * 10_000), "ValueError: " + "x" * 988),
    ],
)
def test_an_exception_of_the_app_becomes_an_error_reply(
    error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    reply = Node(raising(error)).ask(sparse_server().records())
    assert failed(reply, ErrorCode.CLIENT_FAILED)
    assert reply.error.reason == reason
    # The traceback of what is not ours stays here.
    assert ("in app" in caplog.text) == (not isinstance(error, DataError))


def test_an_error_reply_of_the_app_passes() -> None:
    def app(message: Message, context: Context) -> Message:
        return Message(Error(77, "mine"), reply_to=message)

    reply = Node(app).ask(sparse_server().records())
    assert (reply.error.code, reply.error.reason) == (77, "mine")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["conv", "bias"])
@pytest.mark.parametrize(
    ("action", "up"),
    [(Action.TRAIN, "float32"), (Action.TRAIN, "int8"), (Action.PERSONALISE, "float32")],
)
def test_training_that_diverged_becomes_an_error_reply(
    bad: float, name: str, action: Action, up: str
) -> None:
    def diverge(key: str, array: NDArray[Any]) -> NDArray[Any]:
        return np.full_like(array, bad) if key == name else array

    node = Node(training(diverge))
    reply = node.ask(sparse_server().records(action, up=up))
    assert failed(reply, ErrorCode.CLIENT_FAILED, "training diverged")
    assert "caafp.personal" not in node.context.state


def test_an_update_too_large_for_its_numbers_has_diverged() -> None:
    server = Server({"w": np.full((1, 4), 3e38, "f4")})
    reply = Node(training(lambda name, array: -array)).ask(server.records())
    assert failed(reply, ErrorCode.CLIENT_FAILED, "training diverged")


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ({}, "found none"),
        ({"a": {"w": np.zeros(1)}, "b": {"w": np.zeros(1)}}, "found a, b"),
        ({"arrays": {"conv": np.zeros((4, 3, 5), "f4")}}, "missing ['bias', 'head', 'steps']"),
        ({"arrays": model() | {"conv": np.zeros((5, 3, 4), "f4")}}, "expected shape (4, 3, 5)"),
        ({"arrays": model() | {"steps": np.array(np.nan)}}, "numbers of dtype int64"),
    ],
)
def test_an_app_that_returns_no_such_model_is_told(
    returned: dict[str, Arrays], reason: str
) -> None:
    def app(message: Message, context: Context) -> Message:
        content = RecordDict({name: to_record(arrays) for name, arrays in returned.items()})
        return Message(content, reply_to=message)

    reply = Node(app).ask(sparse_server().records())
    assert failed(reply, ErrorCode.CLIENT_FAILED, reason)


def test_bad_requests_become_error_replies() -> None:
    server = sparse_server()
    node = Node(raising(AssertionError("the app must not be asked")))
    lying = server.records()
    repacked(lying, lambda arrays: arrays.update({"values": np.zeros(1, "f4")}))
    twice = server.records()
    twice["arrays"] = ArrayRecord()
    for records, words in [
        (RecordDict({HEADER: ConfigRecord({"version": 9})}), "protocol version 9"),
        (RecordDict({HEADER: ConfigRecord()}), "'version'"),
        (server.records(mask_digest="0" * 16), "was named"),
        (lying, "values: expected"),
        (twice, "two records of the message are called 'arrays'"),
    ]:
        assert failed(node.ask(records), ErrorCode.BAD_REQUEST, words)


# -- describe, and messages of others ------------------------------------------------------------


def describe_request() -> RecordDict:
    return Request(Action.DESCRIBE, seed=3, phase="describe").to_records()


def test_an_app_may_describe_itself_once() -> None:
    calls = []

    def describe(context: Context) -> Description:
        calls.append(context.node_id)
        return Description("user-3", examples=80, population=30, idle="")

    node = Node(training(drift), SparseMod(describe))
    answer = Answer.from_records(node.ask(describe_request()).content)
    assert (answer.label, answer.examples, answer.population) == ("user-3", 80, 30)
    assert Answer.from_records(node.ask(sparse_server().records()).content).label == "user-3"
    assert len(calls) == 1
    node.context.state = RecordDict()
    assert Answer.from_records(node.ask(sparse_server().records()).content).label == "user-3"


def test_a_description_may_know_more_than_is_told() -> None:
    @dataclass(frozen=True, slots=True)
    class Mine(Description):
        room: str = "hall"

    node = Node(training(drift), SparseMod(lambda context: Mine("user-3", examples=80)))
    answer = Answer.from_records(node.ask(describe_request()).content)
    assert (answer.label, answer.examples) == ("user-3", 80)


def test_a_description_that_fails_becomes_an_error_reply() -> None:
    def describe(context: Context) -> Description:
        raise DataError("data-path: no such folder")

    reply = Node(training(drift), SparseMod(describe)).ask(describe_request())
    assert failed(reply, ErrorCode.CLIENT_FAILED, "data-path")


@pytest.mark.parametrize(
    ("config", "label"),
    [
        ({"label": "kitchen", "partition-id": 3}, "kitchen"),
        ({"label": 7}, "7"),
        ({"partition-id": 3, "num-partitions": 30}, "part-0003"),
        ({}, "node-2a"),
    ],
)
def test_a_node_is_named_by_its_config(config: dict[str, Any], label: str) -> None:
    assert describe_node(Context(1, 42, config, RecordDict(), {})).label == label


@pytest.mark.parametrize("route", ["train", "evaluate", "query", "train.fine_tune"])
def test_messages_of_other_strategies_pass_untouched(route: str) -> None:
    records = RecordDict({"arrays": to_record(model()), "config": ConfigRecord({"lr": 0.1})})
    seen: list[RecordDict] = []

    def app(message: Message, context: Context) -> Message:
        seen.append(message.content)
        return Message(message.content, reply_to=message)

    node = Node(app)
    reply = node.ask(records, route)
    assert set(seen[0]) == {"arrays", "config"}
    assert same(contents(reply.content.array_records["arrays"]), model())
    assert not node.context.state


def test_a_message_that_is_an_error_passes() -> None:
    from caafp_app.protocol.mod import sparse_mod

    message = Message(Error(1, "lost"), reply_to=Message(RecordDict(), 42, "train"))
    assert sparse_mod(message, Node(identity).context, lambda m, c: m) is message  # type: ignore[arg-type]
