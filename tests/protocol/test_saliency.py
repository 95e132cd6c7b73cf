"""Which weights matter before training: |gradient x weight|, as SNIP has it."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from caafp_app.protocol.arrays import to_record
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.messages import GRADIENT, HEADER, Action, Answer, ErrorCode
from caafp_app.protocol.payload import attached
from caafp_app.runner.model import SparseModel
from caafp_app.runner.options import WireFormat
from caafp_app.runner.query import Query
from caafp_app.runner.replies import read_saliency
from tests.protocol.support import Arrays, Node, Server, identity, random_mask, training

MODEL: Arrays = {
    "w": np.random.default_rng(0).standard_normal((6, 7)).astype(np.float32),
    "b": np.ones(6, np.float32),
}
SLOPE = np.random.default_rng(1).standard_normal((6, 7)).astype(np.float32)


def server(density: float = 1.0) -> Server:
    return Server(MODEL, random_mask(Layout.of(MODEL), density))


def expected(of: Server, slope: NDArray[Any]) -> NDArray[np.float64]:
    both = of.arrays["w"].astype(np.float64) * slope
    found = np.abs(both.reshape(-1)[of.mask.bits])
    return np.asarray(found / found.mean())


@pytest.mark.parametrize("density", [1.0, 0.4])
def test_from_the_gradient_that_the_app_reports(density: float) -> None:
    of = server(density)
    node = Node(training(identity, extra={GRADIENT: to_record({"w": SLOPE})}))
    reply = node.ask(of.records(Action.SALIENCY))
    assert set(reply.content) == {HEADER, "metrics"}
    arrays = attached(reply.content)
    assert arrays.keys() == {"values"}
    assert arrays["values"].mean() == pytest.approx(1)
    np.testing.assert_allclose(arrays["values"], expected(of, SLOPE), rtol=1e-5)
    assert Answer.from_records(reply.content).action is Action.SALIENCY


def test_from_the_drift_of_an_app_that_reports_none() -> None:
    of = server(0.4)
    node = Node(training(lambda name, a: a - 0.1 * SLOPE if name == "w" else a))
    arrays = attached(node.ask(of.records(Action.SALIENCY)).content)
    np.testing.assert_allclose(arrays["values"], expected(of, SLOPE), rtol=1e-4)


def test_an_app_that_does_not_move_finds_nothing_salient() -> None:
    arrays = attached(Node(training(identity)).ask(server().records(Action.SALIENCY)).content)
    assert not arrays["values"].any()
    assert arrays["values"].size == 42


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_saliencies_that_are_not_finite_become_an_error_reply(bad: float) -> None:
    slope = SLOPE.copy()
    slope.flat[np.abs(MODEL["w"]).argmax()] = bad  # times a weight above 1.2
    node = Node(training(identity, extra={GRADIENT: to_record({"w": slope})}))
    reply = node.ask(server().records(Action.SALIENCY))
    assert reply.error.code == ErrorCode.CLIENT_FAILED
    assert "NaN or infinity" in (reply.error.reason or "")


@pytest.mark.parametrize("up", ["float32", "float16"])
def test_saliencies_travel_in_the_type_of_what_may_be_pruned(up: str) -> None:
    of = Server({**MODEL, "b": np.ones(6)})  # the rest is float64
    node = Node(training(identity, extra={GRADIENT: to_record({"w": SLOPE})}))
    answer = Answer.from_records(node.ask(of.records(Action.SALIENCY, up=up)).content)
    assert answer.arrays["values"].dtype == up
    query = Query(Action.SALIENCY, SparseModel(of.model, of.mask), ())
    values = read_saliency(answer, query, WireFormat(up=up)).values
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, expected(of, SLOPE), rtol=1e-5 if up == "float32" else 1e-3)
