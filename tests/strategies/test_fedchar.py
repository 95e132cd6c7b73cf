"""FedCHAR: the two models of a client against plain torch, and what is asked of whom and when."""

from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from torch.nn import functional

from caafp_app.client.work import Work
from caafp_app.client_app import app
from caafp_app.datasets.resolve import load_client
from caafp_app.errors import SettingsError
from caafp_app.models import build_model
from caafp_app.protocol.held import kept_arrays
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Answer, Request
from caafp_app.protocol.objective import DUAL_WEIGHT, OWN
from caafp_app.protocol.packing import pack_model, unpack_parts
from caafp_app.protocol.trained import PERSONAL
from caafp_app.server_app import initial_arrays
from caafp_app.settings import Settings
from caafp_app.strategies import Clustering
from caafp_app.strategies.fedchar import FedCHAR
from caafp_app.training import LocalTraining, dump_arrays, load_arrays, seeded
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.strategies.support import TINY, nodes, run

Arrays = dict[str, np.ndarray]
LAMBDA = 0.5
CONFIG = {**TINY, "local-epochs": 2, "finetune-epochs": 1, "finetune-learning-rate": 0.002}


def plain_training(
    start: Arrays, data: Any, how: LocalTraining, w: Arrays, weight: float
) -> Arrays:
    """CE(v) + weight / 2 |v - w|^2 by torch's own Adam."""
    model = build_model("har-cnn", data.input_shape, len(data.class_names), seed=0)
    load_arrays(model, start)
    centre = {name: torch.from_numpy(array.copy()) for name, array in w.items()}
    optimiser = torch.optim.Adam(model.parameters(), lr=how.learning_rate)
    x, y = torch.from_numpy(np.array(data.train_x)), torch.from_numpy(np.array(data.train_y))
    model.train()
    with seeded(how.seed):
        for _ in range(how.epochs):
            for batch in torch.split(torch.randperm(len(y)), how.batch_size):
                optimiser.zero_grad()
                loss = functional.cross_entropy(model(x[batch]), y[batch])
                for name, parameter in model.named_parameters():
                    loss = loss + weight / 2 * ((parameter - centre[name]) ** 2).sum()
                loss.backward()
                optimiser.step()
    return dump_arrays(model)


class Client:
    """One client of our own app, spoken to message by message."""

    def __init__(self) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.settings = Settings.from_run_config(CONFIG)
        self.grid = LocalGrid(app, nodes(6)[:1], CONFIG)
        (self.node,) = self.grid.contexts
        self.context = self.grid.contexts[self.node]
        self.data = load_client(self.settings.data, nodes(6)[0])
        self.layout = Layout.of(initial_arrays(self.settings))

    def model(self, seed: int) -> Arrays:
        names = self.data.class_names
        return dump_arrays(build_model("har-cnn", self.data.input_shape, len(names), seed))

    def ask(self, action: Action, w: Arrays, round_: int, weight: float = LAMBDA) -> Message:
        mask = Mask.full(self.layout)
        packed = pack_model(self.layout.flatten(w), mask, "float32", "float32")
        self.request = Request(
            action,
            round=round_,
            seed=5,
            phase="cluster-warm-up",
            cluster=0,
            mask_digest=mask.digest,
            layout=self.layout.to_json(),
            arrays=packed,
            evaluate=True,
        )
        records = self.request.to_records()
        records["config"] = ConfigRecord({DUAL_WEIGHT: weight} if weight else {"lr": 1})
        (reply,) = self.grid.send_and_receive([Message(records, self.node, MessageType.TRAIN)])
        assert reply.has_content(), reply.error.reason
        return reply

    def how(self) -> LocalTraining:
        work = Work(RecordDict(), self.context, self.settings, self.request, self.data, {}, None)
        return work.how()

    def update(self, reply: Message) -> np.ndarray:
        arrays = Answer.from_records(reply.content).arrays
        parts = unpack_parts(arrays, Mask.full(self.layout), "float32", "float32")
        return np.concatenate([parts.values, parts.rest])

    def kept(self, name: str = OWN) -> Arrays:
        return kept_arrays(self.context, name)


def close(found: Arrays, truth: Arrays) -> None:
    assert found.keys() == truth.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, truth[name], atol=2e-4, err_msg=name)


def test_v_is_trained_near_each_w_that_comes_and_lives_on() -> None:
    client = Client()
    first, second = client.model(1), client.model(2)
    client.ask(Action.TRAIN, first, 1)
    truth = plain_training(first, client.data, client.how(), first, LAMBDA)
    close(client.kept(), truth)
    client.ask(Action.TRAIN, second, 2)
    close(client.kept(), plain_training(truth, client.data, client.how(), second, LAMBDA))
    # Neither without the pull of w, nor from w itself, would it be where it is.
    for start, weight in ((truth, 0.0), (second, LAMBDA)):
        other = plain_training(start, client.data, client.how(), second, weight)
        assert np.abs(other["dense.weight"] - client.kept()["dense.weight"]).max() > 2e-3


def test_what_is_returned_is_the_change_of_w_alone() -> None:
    with_v, without = Client(), Client()
    w = with_v.model(1)
    found, truth = (c.ask(Action.TRAIN, w, 1, v) for c, v in ((with_v, LAMBDA), (without, 0.0)))
    np.testing.assert_array_equal(with_v.update(found), without.update(truth))
    assert not without.kept()
    metrics = [dict(next(iter(r.content.metric_records.values()))) for r in (found, truth)]
    assert metrics[0] == metrics[1]


def test_a_lost_v_starts_from_w_again() -> None:
    client = Client()
    client.ask(Action.TRAIN, client.model(1), 1)
    client.context.state.clear()
    second = client.model(2)
    client.ask(Action.TRAIN, second, 2)
    close(client.kept(), plain_training(second, client.data, client.how(), second, LAMBDA))


def test_personalising_continues_v_and_scores_w_before_and_v_after() -> None:
    client = Client()
    w = client.model(1)
    client.ask(Action.TRAIN, w, 1)
    v = client.kept()
    reply = client.ask(Action.PERSONALISE, w, 9)
    how = client.how()
    assert (how.epochs, how.learning_rate) == (1, 0.002)
    close(client.kept(PERSONAL), plain_training(v, client.data, how, w, LAMBDA))
    alone = Client().ask(Action.PERSONALISE, w, 9, weight=0.0)
    found, truth = (next(iter(r.content.metric_records.values())) for r in (reply, alone))
    assert found["cluster-loss"] == truth["cluster-loss"]
    assert found["personal-loss"] != truth["personal-loss"]


def test_clients_are_asked_for_v_inside_clusters_and_at_the_end_only() -> None:
    changes = {"strategy": "fedchar", "warmup-rounds": 2, "cluster-rounds": 2, "prune-rounds": 2}
    done = run({**changes, "strategy-args": "dual_weight=2.5"})
    assert [step.phase for step in done.seen.plan] == ["warm-up"] * 2 + ["cluster-warm-up"] * 4
    asked: dict[str, set[Any]] = {}
    for message in done.grid.requests:
        phase = str(message.content.config_records["caafp"]["phase"])
        if phase != "describe":
            weight = message.content.config_records.get("config", {}).get(DUAL_WEIGHT)
            asked.setdefault(phase, set()).add(weight)
    assert asked == {
        "warm-up": {None},
        "cluster": {None},
        "cluster-warm-up": {2.5},
        "personalise": {2.5},
    }
    assert isinstance(done.strategy, FedCHAR)
    assert done.strategy.clustering.linkage == "complete"
    assert len(done.asked()[3, "cluster"]) == 6
    assert {c.density for c in done.result.clusters.values()} == {1.0}


def test_who_missed_the_clustering_trains_no_v_where_it_is_placed() -> None:
    """Its cluster is not known yet: that the server calls it 0 meanwhile means nothing."""

    def tamper(request: Message, reply: Message) -> Message | None:
        header = reply.content.config_records["caafp"]
        lost = (header["label"], header["action"], header["round"]) == ("part-0002", "train", 2)
        return None if lost else reply

    strategy = FedCHAR(
        warmup_rounds=1, clustering=Clustering(2), one_exchange=True, personalise=False
    )
    grid = LocalGrid(numpy_app.make_app(), nodes(5), tamper=tamper, serialise=False)
    strategy.start(grid, numpy_app.initial(), num_rounds=4, timeout=0.1)
    (node,) = (n for n, c in grid.contexts.items() if c.node_config["partition-id"] == 2)
    asked = []
    for message in grid.requests:
        header = message.content.config_records["caafp"]
        if message.metadata.dst_node_id == node and header["action"] == "train":
            dual = message.content.config_records.get("config", {}).get(DUAL_WEIGHT)
            asked.append((header["round"], header["phase"], dual))
    # Round 2: the clustering, and the round itself. In round 4 it is placed.
    placing = [(round_, dual) for round_, phase, dual in asked if phase == "cluster"]
    assert placing == [(2, None), (4, None)]
    assert {dual for _, phase, dual in asked if phase == "cluster-warm-up"} == {1.0}


def test_it_needs_rounds_inside_the_clusters() -> None:
    with pytest.raises(SettingsError, match="expected fewer than all 4, found 4"):
        FedCHAR(warmup_rounds=4).plan(4)
    assert [s.phase for s in FedCHAR().plan(10)] == ["warm-up"] * 3 + ["cluster-warm-up"] * 7
