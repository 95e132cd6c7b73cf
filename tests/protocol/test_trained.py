"""The way back: the update, its gradient, and what a lossy codec leaves over."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from numpy.typing import NDArray

from caafp_app.protocol.arrays import to_record
from caafp_app.protocol.gradient import unpack_gradient
from caafp_app.protocol.held import kept_arrays
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import GRADIENT, HEADER, Answer, ErrorCode
from caafp_app.protocol.payload import attached
from tests.protocol.support import (
    Arrays,
    Node,
    Server,
    contents,
    drift,
    failed,
    identity,
    random_mask,
    sparse_server,
    training,
)

# -- gradients -----------------------------------------------------------------------------------


def test_drift_of_a_dense_app_becomes_the_gradient() -> None:
    server = sparse_server()
    counts = (5, 7)
    reply = Node(training(drift)).ask(server.records(gradient_counts=counts))
    answer = Answer.from_records(reply.content)
    found = unpack_gradient(
        answer.arrays["gradient-index"],
        answer.arrays["gradient-value"],
        answer.gradient_scale,
        server.mask,
        sum(counts),
    )
    layout = server.mask.layout
    moved = layout.flatten(
        {name: drift(name, array) for name, array in server.arrays.items()}
    ).weights
    expected: list[int] = []
    for part, count in zip(layout.segments, counts, strict=True):
        places = [i for i in range(part.start, part.stop) if not server.mask.bits[i]]
        expected += sorted(sorted(places, key=lambda i: (-abs(moved[i]), i))[:count])
    assert found.index.tolist() == expected
    np.testing.assert_allclose(found.value, -moved[expected], rtol=2e-3)


def test_a_gradient_that_the_app_reports_goes_first() -> None:
    server = sparse_server()
    layout = server.mask.layout
    slopes = {e.name: np.zeros(e.shape, np.float32) for e in layout.weight_entries}
    inactive = np.flatnonzero(~server.mask.bits)
    flat = np.zeros(layout.weight_count, np.float32)
    flat[inactive[3]], flat[inactive[-2]], flat[server.mask.active[0]] = -2.0, 0.5, 9.0
    slopes = {name: part.copy() for name, part in layout.split(flat).items()}
    app = training(drift, extra={GRADIENT: to_record(slopes | {"bias": np.ones(4, np.float32)})})
    reply = Node(app).ask(server.records(gradient_counts=(9, 9)))
    assert set(reply.content) == {HEADER, "metrics"}
    answer = Answer.from_records(reply.content)
    assert answer.gradient_scale == 2.0
    assert answer.arrays["gradient-value"].tolist() == [-1.0, 0.25]


@pytest.mark.parametrize(
    ("given", "counts", "reason"),
    [
        (
            {"conv": np.ones((4, 3, 5), "f4")},
            (1, 1),
            "gradient of 'head': expected shape (6, 8), found nothing",
        ),
        ({"conv": np.ones((4, 15), "f4"), "head": np.ones((6, 8), "f4")}, (1, 1), "found (4, 15)"),
        ({"conv": np.full((4, 3, 5), np.nan), "head": np.ones((6, 8))}, (1, 1), "NaN or infinity"),
        (
            {"conv": np.ones((4, 3, 5), "f4"), "head": np.ones((6, 8), "f4")},
            (1,),
            "each of 2 layers",
        ),
    ],
)
def test_bad_gradients_become_error_replies(
    given: Arrays, counts: tuple[int, ...], reason: str
) -> None:
    app = training(drift, extra={GRADIENT: to_record(given)})
    reply = Node(app).ask(sparse_server().records(gradient_counts=counts))
    assert failed(reply, ErrorCode.CLIENT_FAILED, reason)


# -- codecs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("up", ["float16", "int8"])
def test_error_feedback_makes_sent_updates_track_true_ones(up: str) -> None:
    layout = Layout.of({"w": np.zeros((20, 30), "f4")})
    server = Server({"w": np.zeros((20, 30), "f4")}, random_mask(layout, 0.5))
    rng = np.random.default_rng(4)
    true = np.zeros(layout.weight_count)
    base = server.model.weights.copy()
    strays = []
    trained: dict[str, NDArray[Any]] = {}
    node = Node(training(lambda name, array: trained[name]))
    for _ in range(60):
        update = (rng.standard_normal(layout.weight_count) * 1e-3).astype(np.float32)
        update[:300] *= 1e-4  # far below the steps of int8 here
        trained["w"] = (server.arrays["w"].reshape(-1) + update).reshape(20, 30)
        given = server.model.weights.copy()
        true += np.where(server.mask.bits, trained["w"].reshape(-1) - given, 0)
        server.add(node.ask(server.records(up=up)), up)
        strays.append(np.abs(server.model.weights - base - true).max())
    assert strays[0] > 0
    # Without feedback the errors of 60 rounds would add up like a random walk.
    step = {"float16": 5e-6, "int8": 4e-3 / 127}[up]
    assert max(strays) < 2.5 * step
    assert np.mean(strays[30:]) < 2 * np.mean(strays[:30])


def test_what_is_left_over_is_of_what_the_server_decodes() -> None:
    server = Server({"w": np.zeros((5, 80), "f4"), "b": np.zeros(5)})  # not decoded in float64
    update = np.random.default_rng(4).standard_normal((5, 80)).astype(np.float32)
    node = Node(training(lambda name, array: array + update if name == "w" else array))
    server.add(node.ask(server.records(up="int8")), "int8")
    left = kept_arrays(node.context, "residual")["values"]
    np.testing.assert_array_equal(server.model.weights + left, update.reshape(-1))


def test_what_is_left_over_moves_to_the_next_mask_and_is_forgotten_where_pruned() -> None:
    layout = Layout.of({"w": np.zeros((1, 8), "f4")})
    first, then = (
        Mask(layout, np.array(bits, np.bool_)) for bits in ([1] * 4 + [0] * 4, [0, 0, 1, 1] * 2)
    )
    server = Server({"w": np.zeros((1, 8), "f4")}, first)
    update = np.array([[1.0, 0.3, 0.31, 0.32, 0, 0, 0, 0]], np.float32)
    node = Node(training(lambda name, array: array + update))
    sent = server.add(node.ask(server.records(up="int8")), "int8")
    left = update[0, :4] - server.model.weights[:4]
    assert np.abs(left[1:]).max() > 0.0005
    assert sent.arrays["values"].nbytes == 4 + 2 + 4
    server.mask = then
    server.model.weights[:] = 0
    exact = server.records(up="float32")  # an exact codec neither uses nor loses it
    assert server.add(node.ask(exact)).arrays["values"].tolist() == pytest.approx(
        [0.31, 0.32, 0, 0]
    )
    server.model.weights[:] = 0
    update = np.zeros((1, 8), np.float32)
    node.app = training(lambda name, array: array + update)
    server.add(node.ask(server.records(up="int8")), "int8")
    np.testing.assert_allclose(
        server.model.weights[2:4], left[2:], atol=np.abs(left[2:]).max() / 127
    )
    assert not server.model.weights[[0, 1, 4, 5, 6, 7]].any()


def test_what_is_left_over_of_another_model_is_forgotten() -> None:
    small = Server({"w": np.ones((1, 8), "f4")})
    large = Server({"w": np.ones((5, 8), "f4")})
    node = Node(training(drift))
    assert node.ask(small.records(up="int8")).has_content()
    assert node.ask(large.records(up="int8")).has_content()


def test_lossy_updates_do_not_colour_the_gradient() -> None:
    layout = Layout.of({"w": np.zeros((1, 8), "f4")})
    masks = [Mask(layout, np.arange(8) < 4), Mask(layout, np.arange(8) >= 4)]
    server = Server({"w": np.zeros((1, 8), "f4")}, masks[0])
    node = Node(training(lambda name, array: array + np.float32(0.3) * np.arange(8, dtype="f4")))
    node.ask(server.records(up="int8"))
    server.mask = masks[1]
    node.app = training(identity)
    reply = node.ask(server.records(up="int8", gradient_counts=(4,)))
    assert Answer.from_records(reply.content).arrays["gradient-value"].size == 0


def test_each_direction_uses_its_codec() -> None:
    server = sparse_server()
    server.model.weights *= 1e-3
    request = server.request(down="float32", up="int8", rest="float16")
    seen: list[Arrays] = []

    def app(message: Message, context: Context) -> Message:
        seen.append(contents(message.content.array_records["arrays"]))
        return training(drift)(message, context)

    arrays = attached(Node(app).ask(request.to_records()).content)
    assert arrays["values"].dtype == np.uint8
    assert arrays["rest"].dtype == np.float16
    np.testing.assert_allclose(seen[0]["bias"], server.arrays["bias"], rtol=2**-10)
