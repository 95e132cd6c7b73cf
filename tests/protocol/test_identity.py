"""Property: at density 1 a client that learns nothing gives every ArrayRecord back unchanged."""

import numpy as np
from flwr.app import Context, Message
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action
from tests.protocol.support import (
    Arrays,
    Node,
    Server,
    contents,
    equal,
    identity,
    models,
    same,
    training,
)


@given(
    model=models,
    actions=st.lists(st.sampled_from([Action.TRAIN, Action.PERSONALISE]), min_size=1, max_size=3),
)
def test_any_model_passes_server_mod_and_update_unchanged(
    model: Arrays, actions: list[Action]
) -> None:
    server = Server(model)
    given_: list[Arrays] = []

    def app(message: Message, context: Context) -> Message:
        given_.append(contents(message.content.array_records["arrays"]))
        return training(identity)(message, context)

    node = Node(app)
    for turn, action in enumerate(actions):
        reply = node.ask(server.records(action, full=turn == 0))
        assert reply.has_content(), reply.error
        assert same(given_[-1], model) or (turn and equal(given_[-1], model))
        if action is Action.TRAIN:
            server.add(reply)
        else:
            assert equal(contents(node.context.state.array_records["caafp.personal"]), model)
    assert len(given_) == len(actions)
    assert equal(server.arrays, model)


@given(model=models, data=st.data())
def test_at_any_density_what_is_active_passes_unchanged(model: Arrays, data: st.DataObject) -> None:
    layout = Layout.of(model)
    bits = np.array(
        data.draw(
            st.lists(st.booleans(), min_size=layout.weight_count, max_size=layout.weight_count)
        ),
        np.bool_,
    )
    server = Server(model, Mask(layout, bits))
    before = server.arrays
    server.add(Node(training(identity)).ask(server.records()))
    assert equal(server.arrays, before)
    flat = layout.flatten(model)
    np.testing.assert_array_equal(server.model.weights, np.where(bits, flat.weights, 0))
