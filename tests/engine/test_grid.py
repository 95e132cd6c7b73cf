from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, MessageType, RecordDict

from caafp_app.client_app import app
from caafp_app.engine.answer import answer_all
from caafp_app.engine.grid import BatchedGrid
from caafp_app.engine.perform import one_by_one
from caafp_app.engine.run import batched_grid
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Answer, Request
from caafp_app.server_app import initial_arrays
from caafp_app.settings import Settings
from tests.local_grid import LocalGrid
from tests.strategies.support import nodes, request_to

CONFIG: dict[str, Any] = {
    "synthetic-users": 3,
    "synthetic-windows": 20,
    "local-epochs": 1,
    "seed": 3,
    "warmup-rounds": 1,
    "cluster-rounds": 1,
    "prune-rounds": 5,
}
SETTINGS = Settings.from_run_config(CONFIG)


def describe(node: int) -> Message:
    return Message(Request(Action.DESCRIBE, seed=3).to_records(), node, MessageType.TRAIN)


def ask(node: int, action: Action = Action.TRAIN, **kwargs: Any) -> Message:
    """Ask a node to train a model of which it has no more than half."""
    layout = Layout.of(arrays := initial_arrays(SETTINGS))
    mask = Mask(layout, np.arange(layout.weight_count) % 2 == 0)
    request = request_to(action, mask, arrays, seed=3, **{"evaluate": True, **kwargs})
    return Message(request.to_records(), node, MessageType.TRAIN)


def test_messages_are_answered_when_their_replies_are_asked_for() -> None:
    asked: list[list[int]] = []

    def note(messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message]:
        asked.append([context.node_id for context in contexts])
        return [Message(RecordDict(), reply_to=message) for message in messages]

    grid = BatchedGrid(SETTINGS, 3, note)
    known = list(grid.get_node_ids())
    assert list(grid.push_messages([describe(7)])) == []  # of an unknown node
    ids = list(grid.push_messages(describe(node) for node in known))
    assert asked == []
    replies = list(grid.pull_messages(ids[1:]))
    assert asked == [known[1:]]
    assert [reply.metadata.reply_to_message_id for reply in replies] == ids[1:]
    assert [reply.metadata.src_node_id for reply in replies] == known[1:]
    assert len(list(grid.pull_messages(ids))) == 1  # each once
    assert list(grid.pull_messages(ids)) == []
    del asked[:]
    replies = grid.send_and_receive([describe(node) for node in (known[0], known[0], known[1])])
    assert asked == [known[:2], known[:1]]  # two to a node one after the other
    assert len(list(replies)) == 3


def test_a_pool_of_processes_answers_as_the_client_app_does_to_the_last_bit() -> None:
    there = LocalGrid(app, nodes(3), SETTINGS.to_dict())
    with batched_grid(SETTINGS, 3) as here:
        for action in (Action.TRAIN, Action.PERSONALISE):
            answers = [
                [
                    Answer.from_records(reply.content)
                    for reply in grid.send_and_receive(
                        [ask(node, action) for node in grid.get_node_ids()]
                    )
                ]
                for grid in (here, there)
            ]
            for ours, truth in zip(*answers, strict=True):
                assert (ours.label, ours.mask_digest) == (truth.label, truth.mask_digest)
                assert ours.arrays.keys() == truth.arrays.keys()
                for name, array in truth.arrays.items():
                    np.testing.assert_array_equal(ours.arrays[name], array)
        # What clients keep outlives the message: the mask and the personal model are there.
        personal, nothing = Action.EVALUATE_PERSONAL, {"layout": b"", "mask": None, "arrays": {}}
        kept = [ask(node, personal, **nothing) for node in here.get_node_ids()]
        assert [r.has_content() for r in here.send_and_receive(kept)] == [True] * 3


@pytest.mark.parametrize("broken", ["request", "data", "model"])
def test_what_goes_wrong_with_one_client_is_its_own_error_reply(broken: str) -> None:
    def load(settings: Any, node_config: Any) -> Any:
        from caafp_app.datasets.resolve import load_client

        if broken == "data" and node_config["partition-id"] == 1:
            raise OSError("the disk is gone")
        return load_client(settings, node_config)

    def answer(messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message]:
        return answer_all(messages, contexts, one_by_one("cpu"), load)

    grid = BatchedGrid(SETTINGS, 3, answer)
    messages = [ask(node) for node in grid.get_node_ids()]
    node = messages[1].metadata.dst_node_id
    if broken == "request":
        messages[1] = ask(node, mask_digest="unheard of")
    if broken == "model":
        other = {"other.weight": np.zeros((3, 3), np.float32)}
        request = request_to(Action.TRAIN, Mask.full(Layout.of(other)), other, seed=3)
        messages[1] = Message(request.to_records(), node, MessageType.TRAIN)
    replies = list(grid.send_and_receive(messages))
    assert [reply.has_error() for reply in replies] == [False, True, False]
    said = {"request": "unheard of", "data": "the disk is gone", "model": "arrays"}
    assert said[broken] in replies[1].error.reason
