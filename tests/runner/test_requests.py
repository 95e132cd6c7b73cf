"""Messages of one round: what is equal in them is shared, and a mask goes where it lacks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Request
from caafp_app.protocol.packing import unpack_parts
from caafp_app.runner.model import SparseModel
from caafp_app.runner.options import Options, WireFormat
from caafp_app.runner.query import Query
from caafp_app.runner.requests import RequestWriter
from caafp_app.runner.roster import Client

RNG = np.random.default_rng(0)
ARRAYS = {
    "w": RNG.normal(size=(40, 30)).astype(np.float32),
    "b": RNG.normal(size=30).astype(np.float32),
}
LAYOUT = Layout.of(ARRAYS)


@pytest.fixture(autouse=True)
def task() -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def model_of(seed: int, density: float = 0.4, flips: int = 0) -> SparseModel:
    bits = np.random.default_rng(seed).random(LAYOUT.weight_count) < density
    bits[:flips] = ~bits[:flips]
    return SparseModel(LAYOUT.flatten(ARRAYS), Mask(LAYOUT, bits))


def writer_of(**options: Any) -> RequestWriter:
    return RequestWriter(Options(seed=1, train_config=ConfigRecord({"lr": 0.1}), **options))


def write(
    writer: RequestWriter,
    model: SparseModel,
    *clients: Client,
    round_: int = 1,
    action: Action = Action.TRAIN,
    **query: Any,
) -> list[Message]:
    writer.open("prune", round_)
    asked = Query(action, model, clients, query.pop("group", 0), **query)
    return [writer.write(asked, client) for client in clients]


def read(message: Message) -> Request:
    return Request.from_records(message.content)


def test_clients_of_one_query_that_hold_the_same_share_their_records() -> None:
    writer, model = writer_of(), model_of(1)
    clients = [Client(f"c{k}", k, cluster=0) for k in range(1000)]
    messages = write(writer, model, *clients)
    assert len({id(message.content) for message in messages}) == 1
    assert [message.metadata.dst_node_id for message in messages] == list(range(1000))
    assert messages[0].metadata.message_type == MessageType.TRAIN
    (later,) = write(writer, model, clients[0], round_=2)
    assert read(later).round == 2


def test_layout_and_mask_travel_where_they_lack() -> None:
    model = model_of(1)
    new, holder = Client("new", 1), Client("old", 2, held=model.mask.digest)
    messages = write(writer_of(), model, new, holder)
    first, second = map(read, messages)
    assert first.layout == LAYOUT.to_json()
    assert first.mask is not None
    np.testing.assert_array_equal(first.mask, model.mask.packed)
    assert (second.layout, second.mask, second.mask_base) == (b"", None, "")
    for request in (first, second):
        sent = unpack_parts(request.arrays, model.mask, "float32", "float32")
        np.testing.assert_array_equal(model.mask.scatter(sent.values), model.flat.weights)
        np.testing.assert_array_equal(sent.rest, model.flat.rest)
        assert request.mask_digest == model.mask.digest
    assert dict(messages[0].content["config"]) == {"lr": 0.1, "server-round": 1}


def test_a_querys_config_goes_over_the_users_and_its_records_to_newcomers_alone() -> None:
    model, own = model_of(1), ArrayRecord([np.ones(2, np.float32)])
    clients = Client("new", 1), Client("old", 2, held=model.mask.digest)
    messages = write(
        writer_of(), model, *clients, config={"lr": 0.5, "mu": 1}, records={"own": own}
    )
    for message in messages:
        assert dict(message.content["config"]) == {"lr": 0.5, "mu": 1, "server-round": 1}
    assert ["own" in message.content for message in messages] == [True, False]
    (bare,) = write(RequestWriter(Options(one_exchange=True)), model, clients[0])
    assert "config" not in bare.content
    assert read(bare).config_key == "config"  # the mod makes one


def test_a_small_change_travels_as_a_difference_a_large_one_in_full() -> None:
    old, near, far = model_of(1), model_of(1, flips=12), model_of(2)
    writer = writer_of()
    write(writer, old, Client("c", 1))
    holder = Client("c", 1, held=old.mask.digest)
    (small,) = map(read, write(writer, near, holder, round_=2))
    assert small.mask_base == old.mask.digest
    assert small.mask.size < near.mask.packed.size
    (large,) = map(read, write(writer, far, holder, round_=3))
    assert (large.mask_base, large.layout) == ("", b"")
    assert large.mask.size == far.mask.packed.size
    full = read(writer.write(Query(Action.TRAIN, near, (holder,)), holder, in_full=True))
    assert (full.mask_base, full.layout) == ("", LAYOUT.to_json())


def test_a_mask_of_which_nothing_is_known_is_no_base() -> None:
    (request,) = map(read, write(writer_of(), model_of(1), Client("c", 1, held="0123456789abcdef")))
    assert request.mask_base == ""
    assert request.mask is not None


def test_a_dense_model_needs_no_bits() -> None:
    dense = model_of(1, density=2.0)
    assert dense.mask.is_full
    (request,) = map(read, write(writer_of(), dense, Client("c", 1)))
    assert request.mask is None
    assert request.layout


def test_an_evaluation_of_the_personal_model_brings_no_model() -> None:
    model = model_of(1)
    (message,) = write(
        writer_of(arrayrecord_key="weights"),
        model,
        Client("c", 1, held=model.mask.digest),
        action=Action.EVALUATE_PERSONAL,
    )
    assert message.metadata.message_type == MessageType.EVALUATE
    assert read(message).arrays == {}
    assert read(message).arrays_key == "weights"
    assert dict(message.content["config"]) == {"server-round": 1}  # not that of training


def test_stochastic_rounding_repeats_and_differs_between_seeds_rounds_and_clusters() -> None:
    def values(seed: int, group: int, round_: int) -> bytes:
        writer = RequestWriter(Options(seed=seed, wire=WireFormat(down="int8")))
        (message,) = write(writer, model_of(1), Client("c", 1), round_=round_, group=group)
        return read(message).arrays["values"].tobytes()

    first = values(1, 0, 1)
    assert values(1, 0, 1) == first
    assert len({first, values(2, 0, 1), values(1, 1, 1), values(1, 0, 2)}) == 4


def test_a_client_is_told_what_an_override_told_it_last_or_else_what_it_told_all() -> None:
    model, writer = model_of(1), writer_of()
    clients = {name: Client(name, k) for k, name in enumerate("abcd", 1)}
    same = ArrayRecord([np.ones(3)])
    for round_, asked in ((1, "ab"), (2, "bc")):
        writer.options = replace(
            writer.options, train_config=ConfigRecord({"lr": 0.1, "step": round_})
        )
        messages = write(writer, model, *(clients[name] for name in asked), round_=round_)
        for name, message in zip(asked, messages, strict=True):
            config = {**message.content["config"], "lr": round_ + ord(name), "epochs": round_}
            own = ArrayRecord([np.array([round_])])
            message.content = RecordDict({"config": ConfigRecord(config), "same": same, name: own})
        writer.note(messages)
    writer.note([])
    writer.options = replace(writer.options, train_config=ConfigRecord({"lr": 0.1, "step": 3}))
    writer.open("personalise", 3, own=True)
    query = Query(Action.TRAIN, model, tuple(clients.values()))
    for name, client in clients.items():
        content = writer.write(query, client).content
        last = name in "bc"  # the last exchange
        wanted = {"lr": 2 + ord(name) if last else 0.1, "step": 3, "epochs": 2, "server-round": 3}
        assert dict(content["config"]) == wanted
        assert [n for n in content if n in {"same", *clients}] == ["same", *([name] * last)]
    query = Query(Action.EVALUATE, model, (clients["b"],))
    assert dict(writer.write(query, clients["b"]).content["config"]) == {"server-round": 3}
