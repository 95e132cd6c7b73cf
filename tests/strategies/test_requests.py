"""Messages of one round: what is equal in them is shared, and a mask goes where it lacks."""

import numpy as np
import pytest
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.requests import RequestWriter, WireFormat
from caafp_app.strategies.roster import Client
from flwr.app import ConfigRecord, Message, MessageType
from flwr.supercore.task_identity import TaskIdentity

from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Request
from caafp_app.protocol.packing import unpack_model

RNG = np.random.default_rng(0)
ARRAYS = {
    "w": RNG.normal(size=(40, 30)).astype(np.float32),
    "b": RNG.normal(size=30).astype(np.float32),
}
LAYOUT = Layout.of(ARRAYS)


@pytest.fixture(autouse=True)
def task() -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def model_of(seed: int, density: float = 0.4, flips: int = 0) -> ClusterModel:
    bits = np.random.default_rng(seed).random(LAYOUT.weight_count) < density
    bits[:flips] = ~bits[:flips]
    return ClusterModel(LAYOUT.flatten(ARRAYS), Mask(LAYOUT, bits))


def write(writer: RequestWriter, client: Client, model: ClusterModel, round_: int = 1) -> Message:
    request = Request(Action.TRAIN, round=round_, phase="prune")
    return writer.write(client, model, request, {"config": ConfigRecord({"lr": 0.1})})


def read(message: Message) -> Request:
    return Request.from_records(message.content)


def test_clients_of_one_cluster_that_hold_the_same_share_their_records() -> None:
    writer, model = RequestWriter(WireFormat(), seed=1), model_of(1)
    clients = [Client(f"c{k}", k, cluster=0) for k in range(1000)]
    messages = [write(writer, client, model) for client in clients]
    assert len({id(message.content) for message in messages}) == 1
    assert [message.metadata.dst_node_id for message in messages] == list(range(1000))
    assert messages[0].metadata.message_type == MessageType.TRAIN
    later = write(writer, clients[0], model, round_=2)
    assert read(later).round == 2


def test_layout_and_mask_travel_where_they_lack() -> None:
    writer, model = RequestWriter(WireFormat(), seed=1), model_of(1)
    new, holder = Client("new", 1, cluster=0), Client("old", 2, cluster=0, held=model.mask.digest)
    first, second = read(write(writer, new, model)), read(write(writer, holder, model))
    assert first.layout == LAYOUT.to_json()
    assert first.mask is not None
    np.testing.assert_array_equal(first.mask, model.mask.packed)
    assert (second.layout, second.mask, second.mask_base) == (b"", None, "")
    for request in (first, second):
        sent = unpack_model(request.arrays, model.mask, "float32", "float32")
        np.testing.assert_array_equal(sent.weights, model.model.weights)
        np.testing.assert_array_equal(sent.rest, model.model.rest)
        assert request.mask_digest == model.mask.digest
    assert dict(write(writer, new, model).content["config"]) == {"lr": 0.1}


def test_a_small_change_travels_as_a_difference_a_large_one_in_full() -> None:
    old, near, far = model_of(1), model_of(1, flips=12), model_of(2)
    writer = RequestWriter(WireFormat(), seed=1)
    write(writer, Client("c", 1, cluster=0), old)
    holder = Client("c", 1, cluster=0, held=old.mask.digest)
    small = read(write(writer, holder, near, round_=2))
    assert small.mask_base == old.mask.digest
    assert small.mask is not None
    assert small.mask.size < near.mask.packed.size
    large = read(write(writer, holder, far, round_=3))
    assert large.mask_base == ""
    assert large.layout == b""
    assert large.mask is not None
    assert large.mask.size == far.mask.packed.size
    full = writer.write(
        holder, near, Request(Action.TRAIN, round=4, phase="prune"), {}, in_full=True
    )
    assert read(full).layout == LAYOUT.to_json()
    assert read(full).mask_base == ""


def test_a_mask_of_which_nothing_is_known_is_no_base() -> None:
    writer, model = RequestWriter(WireFormat(), seed=1), model_of(1)
    stranger = Client("c", 1, cluster=0, held="0123456789abcdef")
    request = read(write(writer, stranger, model))
    assert request.mask_base == ""
    assert request.mask is not None


def test_a_dense_model_needs_no_bits() -> None:
    dense = model_of(1, density=2.0)
    assert dense.mask.is_full
    writer = RequestWriter(WireFormat(), seed=1)
    request = read(write(writer, Client("c", 1), dense))
    assert request.mask is None
    assert request.layout


def test_an_evaluation_of_the_personal_model_brings_no_model() -> None:
    writer, model = RequestWriter(WireFormat(), seed=1, arrays_key="weights"), model_of(1)
    holder = Client("c", 1, cluster=0, held=model.mask.digest)
    request = Request(Action.EVALUATE_PERSONAL, round=9, phase="evaluate-personal")
    message = writer.write(holder, model, request, {}, route=MessageType.EVALUATE)
    assert message.metadata.message_type == MessageType.EVALUATE
    assert read(message).arrays == {}
    assert read(message).arrays_key == "weights"


def test_stochastic_rounding_repeats_and_differs_between_rounds_and_clusters() -> None:
    def values(seed: int, cluster: int, round_: int) -> bytes:
        writer = RequestWriter(WireFormat(down="int8"), seed=seed)
        return (
            read(write(writer, Client("c", 1, cluster=cluster), model_of(1), round_))
            .arrays["values"]
            .tobytes()
        )

    first = values(1, 0, 1)
    assert values(1, 0, 1) == first
    assert len({first, values(2, 0, 1), values(1, 1, 1), values(1, 0, 2)}) == 4
