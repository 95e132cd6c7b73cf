"""Property: at density 1 a client that learns nothing gives every ArrayRecord back unchanged."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from tests.protocol.support import (
    Arrays,
    Node,
    Server,
    equal,
    identity,
    models,
    training,
)


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
