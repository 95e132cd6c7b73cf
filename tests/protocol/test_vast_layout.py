"""A layout is believed once the values that it promises are there: before, it costs nothing."""

import tracemalloc

import numpy as np
from flwr.app import Message

from caafp_app.protocol.gaps import encode_gaps
from caafp_app.protocol.held import held_mask
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, ErrorCode, Request
from caafp_app.protocol.mod import SparseMod
from tests.fuzz.decoders import a_context, inner_app

SIZE = 1 << 26


def test_a_claim_without_values_is_not_kept() -> None:
    layout = Layout.from_json(f'[["w", [{SIZE // 8}, 8], "float32", 1]]'.encode())
    digest = Mask.full(layout).digest
    context, mod = a_context(), SparseMod()
    claim = Request(Action.TRAIN, 1, mask_digest=digest, layout=layout.to_json())
    # Only who holds the mask can be told where another differs from it.
    other = Request(
        Action.TRAIN,
        1,
        mask_digest="0" * 16,
        mask_base=digest,
        mask=encode_gaps(np.array([1, 2, 3])),
    )
    tracemalloc.start()
    try:
        for request, code in (
            (claim, ErrorCode.BAD_REQUEST),
            (other, ErrorCode.MASK_UNKNOWN),
        ):
            reply = mod(Message(request.to_records(), 1, "train"), context, inner_app)
            assert reply.error.code == code, reply.error
        assert held_mask(context) is None
        assert tracemalloc.get_traced_memory()[1] < SIZE // 8
    finally:
        tracemalloc.stop()
