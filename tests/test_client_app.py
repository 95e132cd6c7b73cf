import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp.strategy import FedAvg

from caafp_app import training
from caafp_app.client_app import app
from caafp_app.datasets.resolve import load_client
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Answer, Request, to_record
from caafp_app.protocol.objective import HELD_OUT, HELD_TRAINED, LABEL_ENTROPY
from caafp_app.server_app import initial_arrays
from caafp_app.settings import Settings
from tests.local_grid import LocalGrid
from tests.strategies.support import nodes, request_to

ROOT = Path(__file__).parents[1]
Call = tuple[training.LocalTraining, Any, int]
CONFIG: dict[str, Any] = {
    "synthetic-users": 4,
    "synthetic-windows": 30,
    "local-epochs": 3,
    "finetune-epochs": 2,
    "learning-rate": 0.01,
    "finetune-learning-rate": 0.005,
    "warmup-rounds": 2,
    "cluster-rounds": 2,
    "prune-rounds": 6,
    "prune-every": 2,
    "seed": 11,
}


class Server:
    """The server's side of a conversation, one message at a time."""

    def __init__(self, changes: Mapping[str, Any] | None = None, density: float = 1.0) -> None:
        config = {**CONFIG, **(changes or {})}
        self.settings = Settings.from_run_config(config)
        self.grid = LocalGrid(app, nodes(4), config)
        self.nodes = list(self.grid.contexts)
        self.arrays = initial_arrays(self.settings)
        self.layout = Layout.of(self.arrays)
        bits = np.random.default_rng(0).random(self.layout.weight_count) < density
        self.mask = Mask(self.layout, bits) if density < 1 else Mask.full(self.layout)

    def ask(
        self,
        action: Action,
        client: int = 0,
        told: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> Message:
        train = action in (Action.TRAIN, Action.PERSONALISE)
        seed = self.settings.run.seed
        request = request_to(action, self.mask, self.arrays, seed=seed, **kwargs)
        records = dict(request.to_records())
        if told:
            records = {"config": ConfigRecord(dict(told)), **records}
        message = Message(
            RecordDict(records),
            self.nodes[client],
            MessageType.TRAIN if train else MessageType.EVALUATE,
        )
        (reply,) = self.grid.send_and_receive([message])
        return reply

    def update(self, reply: Message) -> np.ndarray:
        return np.asarray(Answer.from_records(reply.content).arrays["values"])


def metrics_of(reply: Message) -> MetricRecord:
    assert not reply.has_error(), reply.error.reason
    (record,) = reply.content.metric_records.values()
    return record


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """How each training call was made, inside which mask and on how many windows."""
    calls: list[Call] = []
    original = training.train

    def train(
        model: Any,
        x: Any,
        y: Any,
        how: training.LocalTraining,
        mask: Any = None,
        anchor: Any = None,
    ) -> float:
        calls.append((how, mask, len(x)))
        return original(model, x, y, how, mask, anchor)

    monkeypatch.setattr(training, "train", train)
    return calls


def test_a_training_reply_scores_the_received_model_in_the_same_exchange() -> None:
    server = Server()
    reply = server.ask(Action.TRAIN, evaluate=True)
    metrics = metrics_of(reply)
    assert set(metrics) == {
        *("num-examples", "test-examples", "train-loss"),
        *("cluster-accuracy", "cluster-loss"),
    }
    answer = Answer.from_records(reply.content)
    assert (answer.label, answer.mask_digest) == ("user-00", server.mask.digest)
    assert set(answer.arrays) == {"values", "rest"}
    scored = metrics_of(server.ask(Action.EVALUATE, layout=b""))
    assert scored["cluster-accuracy"] == metrics["cluster-accuracy"]
    assert scored["cluster-loss"] == metrics["cluster-loss"]
    assert scored["num-examples"] == metrics["test-examples"]
    plain = metrics_of(server.ask(Action.TRAIN, layout=b""))
    assert set(plain) == {"num-examples", "train-loss"}
    assert plain["num-examples"] == metrics["num-examples"] > metrics["test-examples"]


def test_windows_held_out_of_training_are_scored_and_not_trained_on(trained: list[Call]) -> None:
    server = Server({"synthetic-windows": 60})
    told = {HELD_OUT: 0.2, HELD_TRAINED: 1.0}
    metrics = metrics_of(server.ask(Action.TRAIN, told=told, evaluate=True))
    assert metrics["num-examples"] == trained[0][2] + metrics["held-examples"]
    assert 0 < metrics["held-examples"] <= 0.2 * metrics["num-examples"]
    assert 0 <= metrics["held-accuracy"] <= 1
    assert metrics["held-trained-loss"] < metrics["held-loss"]
    scored = metrics_of(server.ask(Action.EVALUATE, told=told, layout=b""))
    assert scored["held-loss"] == metrics["held-loss"] != metrics["cluster-loss"]
    server.ask(Action.TRAIN, layout=b"")
    assert trained[1][2] == metrics["num-examples"]
    refused = server.ask(Action.TRAIN, told={HELD_OUT: 0.9}, layout=b"")
    assert "expected a number from 0 to 0.5" in refused.error.reason


def test_the_entropy_of_the_labels_is_told_where_it_is_asked_for() -> None:
    server = Server({"synthetic-windows": 60})
    said = metrics_of(server.ask(Action.TRAIN, told={LABEL_ENTROPY: 1.0}))[LABEL_ENTROPY]
    data = load_client(server.settings.data, {"partition-id": 0, "num-partitions": 4})
    shares = np.unique(data.train_y, return_counts=True)[1] / len(data.train_y)
    assert said == pytest.approx(-(shares @ np.log(shares)) / np.log(len(data.class_names)))


def test_epochs_and_learning_rate_follow_phase_and_action(trained: list[Call]) -> None:
    server = Server({"learning-rate-end": 0.1, "proximal": 0.25, "batch-size": 7})
    server.ask(Action.TRAIN)
    server.ask(Action.TRAIN, round=3, phase="cluster", layout=b"")
    server.ask(Action.TRAIN, round=10, phase="prune", layout=b"")
    server.ask(Action.PERSONALISE, round=11, phase="personalise", layout=b"")
    hows = [how for how, *_ in trained]
    assert [how.epochs for how in hows] == [3, 1, 3, 2]
    rates = [how.learning_rate for how in hows]
    assert rates[0] == 0.01
    assert 0.001 < rates[1] < 0.01
    assert rates[2] == pytest.approx(0.001)
    assert rates[3] == 0.005
    assert {(how.batch_size, how.proximal) for how in hows} == {(7, 0.25)}


def test_an_update_depends_on_client_round_and_seed_alone() -> None:
    server = Server()
    asked = [(server, 0, 1), (server, 0, 2), (server, 1, 1), (Server({"seed": 12}), 0, 1)]
    asked.append((server, 0, 1))
    found = [of.update(of.ask(Action.TRAIN, k, round=n)).tobytes() for of, k, n in asked]
    assert found[0] == found[4]
    assert len(set(found)) == 4


def test_training_and_fine_tuning_are_inside_the_servers_mask(trained: list[Call]) -> None:
    server = Server(density=0.3)
    reply = server.ask(Action.TRAIN)
    assert server.update(reply).shape == (server.mask.count,)
    assert Answer.from_records(reply.content).outside == 0
    personal = server.ask(Action.PERSONALISE, phase="personalise", layout=b"", mask=None)
    assert Answer.from_records(personal.content).outside == 0
    for _, mask, _ in trained:
        for name, bits in server.mask.by_layer().items():
            np.testing.assert_array_equal(mask[name], bits)
    Server().ask(Action.TRAIN)
    assert trained[-1][1] is None  # a dense model has no mask


def test_fine_tuning_fills_the_mask_in_only_when_told_to() -> None:
    server = Server({"finetune-dense": True}, density=0.3)
    assert Answer.from_records(server.ask(Action.TRAIN).content).outside == 0
    personal = server.ask(Action.PERSONALISE, phase="personalise", layout=b"", mask=None)
    gone = server.layout.weight_count - server.mask.count
    assert Answer.from_records(personal.content).outside > 0.9 * gone


def test_a_personal_model_is_scored_before_and_after_and_stays_at_home() -> None:
    server = Server(density=0.5)
    reply = server.ask(Action.PERSONALISE, phase="personalise", evaluate=True)
    metrics = metrics_of(reply)
    assert {"cluster-accuracy", "cluster-loss", "personal-accuracy", "personal-loss"} < set(metrics)
    assert metrics["personal-loss"] != metrics["cluster-loss"]
    assert not reply.content.array_records
    kept = server.grid.contexts[server.nodes[0]].state.array_records["caafp.personal"]
    for name, bits in server.mask.by_layer().items():
        values = kept[name].numpy()
        assert not values[~bits].any()
        assert values[bits].all()
    # It is the one that an evaluation of the personal model is of.
    scored = metrics_of(server.ask(Action.EVALUATE_PERSONAL, layout=b"", mask=None, arrays={}))
    assert scored["cluster-loss"] == pytest.approx(metrics["personal-loss"])


def personalised(server: Server, **told: float) -> MetricRecord:
    reply = server.ask(Action.PERSONALISE, phase="personalise", evaluate=True, told=told)
    return metrics_of(reply)


AUTO = {"finetune-epochs": "auto", "synthetic-windows": 60}


def test_a_client_finds_itself_how_long_to_fine_tune(trained: list[Call]) -> None:
    server = Server(AUTO, density=0.5)
    metrics = personalised(server)
    assert 0 < metrics["finetune-epochs"] <= training.MOST_EPOCHS
    assert [how.epochs for how, *_ in trained] == [metrics["finetune-epochs"]]
    # The same as with that number told: what was held out is trained on in the end.
    told = Server({**AUTO, "finetune-epochs": int(metrics["finetune-epochs"])}, density=0.5)
    again = personalised(told)
    assert again["personal-loss"] == metrics["personal-loss"] != metrics["cluster-loss"]
    assert "finetune-epochs" not in again


def test_a_second_model_stays_inside_the_mask_and_changes_nothing_that_is_sent() -> None:
    one, two = (Server({"personal": kind}, density=0.5) for kind in ("finetune", "dual"))
    replies = [server.ask(Action.TRAIN, phase="prune", cluster=0) for server in (one, two)]
    np.testing.assert_array_equal(*(two.update(reply) for reply in replies))
    assert metrics_of(replies[0]) == metrics_of(replies[1])
    kept = two.grid.contexts[two.nodes[0]].state.array_records["caafp.own"]
    for name, bits in two.mask.by_layer().items():
        assert not kept[name].numpy()[~bits].any()
        assert kept[name].numpy()[bits].all()
    assert "caafp.own" not in one.grid.contexts[one.nodes[0]].state


def test_a_gradient_is_sent_only_when_asked_for() -> None:
    server = Server(density=0.5)
    without = Answer.from_records(server.ask(Action.TRAIN).content)
    assert "gradient-value" not in without.arrays
    counts = tuple(3 + k for k in range(len(server.layout.segments)))
    with_ = Answer.from_records(server.ask(Action.TRAIN, gradient_counts=counts).content)
    assert with_.arrays["gradient-value"].shape == (sum(counts),)
    assert with_.gradient_scale > 0
    np.testing.assert_array_equal(without.arrays["values"], with_.arrays["values"])


def test_a_node_without_data_says_so() -> None:
    grid = LocalGrid(app, [{"partition-id": 9, "num-partitions": 10}], CONFIG)
    (node,) = grid.contexts
    request = Request(Action.DESCRIBE, phase="describe")
    (reply,) = grid.send_and_receive([Message(request.to_records(), node, MessageType.TRAIN)])
    answer = Answer.from_records(reply.content)
    assert "the data set synthetic has 4 users" in answer.idle
    assert answer.population == 4
    server = Server()
    server.grid.contexts[server.nodes[0]].node_config["partition-id"] = 9
    failed = server.ask(Action.TRAIN)
    assert "expected a client with data" in failed.error.reason


def test_flowers_own_fedavg_can_use_the_app_as_it_is() -> None:
    server = Server()
    before = to_record(server.arrays)
    result = FedAvg().start(server.grid, before, num_rounds=2)
    assert result.train_metrics_clientapp[2]["train-loss"] > 0
    assert 0 <= result.evaluate_metrics_clientapp[2]["cluster-accuracy"] <= 1
    moved = result.arrays["conv1.weight"].numpy() - before["conv1.weight"].numpy()
    assert np.abs(moved).max() > 0.001


def test_the_model_may_come_under_another_name() -> None:
    server = Server()
    record = RecordDict({"weights": ArrayRecord({k: Array(v) for k, v in server.arrays.items()})})
    message = Message(record, server.nodes[0], MessageType.EVALUATE)
    (reply,) = server.grid.send_and_receive([message])
    assert metrics_of(reply)["num-examples"] > 0


def test_a_message_that_needs_no_torch_is_answered_without_it() -> None:
    code = """
import sys
from flwr.app import Context, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from caafp_app.client_app import app
from caafp_app.protocol.messages import Action, Answer, Request
TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
request = Request(Action.DESCRIBE, phase="describe").to_records()
context = Context(1, 2, {"partition-id": 0, "num-partitions": 2}, RecordDict(), {})
reply = app(Message(request, 2, MessageType.TRAIN), context)
print(Answer.from_records(reply.content).label, *{"torch", "sklearn", "ray"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "user-00"
