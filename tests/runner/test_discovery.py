"""Finding out who is there: idle nodes, too few, equal labels, and those who come late."""

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from caafp_app.errors import RunError
from caafp_app.runner import discovery
from caafp_app.strategies import Clustering, Pruning
from tests.strategies.support import Recorder, failed, nodes, run
from tests.strategies.trial import Trial


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="flwr")
    logging.getLogger("flwr").propagate = True
    return caplog


def test_more_nodes_than_users_is_said_plainly(logged: pytest.LogCaptureFixture) -> None:
    done = run({"prune-rounds": 0, "sparsity": 0.0}, count=8)
    said = "2 of 8 SuperNodes take no part: the data set synthetic has 6 users\n"
    assert said in logged.text
    assert sorted(done.seen.labels) == [f"user-{k:02d}" for k in range(6)]
    down = [p for p in done.grid.passages if p.direction == "down"]
    assert len({p.node for p in down}) == 8
    assert len({p.node for p in down if p.header["action"] != "describe"}) == 6
    # Told once, not in every round.
    assert logged.text.count("take no part") == 1


def test_fewer_nodes_than_users_is_said_plainly(logged: pytest.LogCaptureFixture) -> None:
    done = run({"prune-rounds": 0, "sparsity": 0.0}, count=4)
    assert "4 clients for a data set of 6 users: the data of 2 users is not used" in logged.text
    assert len(done.result.clusters[0].members) + len(done.result.clusters[1].members) == 4


def test_users_kept_out_are_used(logged: pytest.LogCaptureFixture) -> None:
    run({"prune-rounds": 0, "sparsity": 0.0, "unseen-users": "1"})
    assert "is not used" not in logged.text


clustered = partial(
    Trial,
    rounds=(2, 1, 2),
    timeout=3600.0,
    clustering=Clustering(2),
    pruning=Pruning(sparsity=0.5, every=1),
)


def test_two_nodes_with_one_label_are_told_apart(logged: pytest.LogCaptureFixture) -> None:
    configs = [{**config, "label": f"pi-{k % 3}"} for k, config in enumerate(nodes(4))]
    trial = clustered(configs=configs)
    result = trial.start().result
    assert "two nodes call themselves 'pi-0'; give each a label of its own" in logged.text
    members = [label for cluster in result.clusters.values() for label in cluster.members]
    assert sorted(members) == ["pi-0", "pi-1", "pi-2"]
    (idle,) = set(trial.grid.contexts) - trial.worked()
    assert trial.grid.contexts[idle].node_config["label"] == "pi-0"
    assert all(record.asked <= 3 for record in trial.seen.rounds)


class Asking(Recorder):
    """Keeps what it is told while clients are asked who they are."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines: list[float] = []
        self.answers: list[tuple[str, bool, str]] = []
        self._describing = False

    def on_asked(self, labels: Sequence[str], phase: str, round: int, deadline: float) -> None:
        self._describing = phase == "describe"
        if self._describing:
            self.deadlines.append(deadline)

    def on_answer(self, label: str, ok: bool, reason: str = "", *_: object, **__: object) -> None:
        if self._describing:
            self.answers.append((label, ok, reason))


def test_an_observer_is_told_who_answers_to_describe() -> None:
    seen = Asking()
    configs = [{**config, "label": f"pi-{k % 3}"} for k, config in enumerate(nodes(5))]
    trial = clustered(configs=configs, timeout=600.0, observer=seen)
    (broken,) = trial.nodes_of(2)

    def tamper(request: Message, reply: Message) -> Message:
        fails = request.metadata.dst_node_id == broken
        return failed(request, reply, why="OSError: no such file") if fails else reply

    trial.grid.tamper = tamper
    began = time.time()
    trial.start()
    assert len(seen.deadlines) == 1
    assert began + 600.0 <= seen.deadlines[0] <= time.time() + 600.0
    assert sorted(label for label, ok, _ in seen.answers if ok) == ["pi-0", "pi-1"]
    refused = {label: reason for label, ok, reason in seen.answers if not ok}
    assert "OSError: no such file" in refused.pop(f"node {broken:x}")
    idle = set(trial.grid.contexts) - trial.worked() - {broken}
    assert set(refused) == {f"node {node:x}" for node in idle}
    assert all("two nodes call themselves" in reason for reason in refused.values())


def test_nobody_there_stops_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "POLL_SECONDS", 0.01)
    trial = clustered(configs=2, timeout=0.05, min_available_nodes=3)
    with pytest.raises(RunError, match=r"expected 3 SuperNodes \(min_available_nodes\), found 2"):
        trial.start()
    assert trial.grid.requests == []


def test_the_start_waits_for_nodes_to_connect(
    monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    trial = clustered(configs=4, min_available_nodes=4)
    (late,) = trial.nodes_of(3)
    trial.grid.offline.add(late)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            trial.grid.offline.clear()

    monkeypatch.setattr(discovery.time, "sleep", sleep)
    trial.start()
    assert len(pauses) == 3
    assert "waiting for SuperNodes: 3 of 4" in logged.text
    assert trial.seen.rounds[0].asked == 4


def test_if_no_node_takes_part_the_reasons_are_given() -> None:
    trial = clustered(configs=2)

    trial.grid.tamper = partial(failed, why="OSError: no such file")
    with pytest.raises(RunError, match="no client takes part: client-failed: OSError: no such"):
        trial.start()
    silent = clustered(configs=2, timeout=0.05)
    silent.grid.tamper = lambda request, reply: None
    with pytest.raises(RunError, match="no client takes part: no node answered in time"):
        silent.start()


def test_a_node_that_did_not_answer_to_describe_is_asked_again() -> None:
    trial = clustered(configs=4, timeout=0.1)
    (slow,) = trial.nodes_of(3)
    lost: list[Message] = []

    def lose_first(request: Message, reply: Message) -> Message | None:
        if request.metadata.dst_node_id == slow and not lost:
            lost.append(reply)
            return None
        return reply

    trial.grid.tamper = lose_first
    result = trial.start().result
    assert trial.seen.round(1).asked == 4  # discovered anew before the first round
    assert sum(len(c.members) for c in result.clusters.values()) == 4


@pytest.mark.parametrize("how", ["error", "silent"])
def test_a_late_joiner_that_cannot_be_placed_does_not_stop_the_run(
    how: str, logged: pytest.LogCaptureFixture
) -> None:
    trial = clustered(timeout=1.5)
    (late,) = trial.nodes_of(4)
    trial.grid.offline.add(late)

    def fail(request: Message, reply: Message) -> Message | None:
        header = request.content.config_records["caafp"]
        if request.metadata.dst_node_id != late or header["phase"] != "cluster":
            return reply
        return None if how == "silent" else failed(request, reply)

    trial.grid.tamper = fail
    trial.seen.at[3, "cluster-warm-up"] = trial.grid.offline.clear
    result = trial.start().result
    assert "part-0004: no update to place it by" in logged.text
    assert "part-0004" in result.clusters[0].members
    assert trial.seen.round(5).answered == 5


def test_clients_that_left_are_not_asked_and_their_cluster_goes_on() -> None:
    trial = clustered(configs=6)
    gone = [node for part in (1, 3, 5) for node in trial.nodes_of(part)]  # a whole group
    trial.seen.at[3, "cluster-warm-up"] = lambda: trial.grid.offline.update(gone)
    kept: list[np.ndarray] = []
    result = trial.start().result
    assert trial.seen.round(3).asked == 6
    assert trial.seen.round(4).asked == trial.seen.round(5).asked == 3
    # An empty cluster keeps its model and its mask keeps up.
    assert len(result.clusters) == 2
    for cluster in result.clusters.values():
        assert cluster.density == pytest.approx(0.5)
        kept.append(cluster.arrays["0"].numpy())
        assert np.isfinite(kept[-1]).all()


def test_a_floor_asks_every_cluster_in_every_round() -> None:
    def counts(**kwargs: Any) -> list[dict[int, int]]:
        trial = clustered(configs=7, clients_per_round=2, seed=1, **kwargs)
        asked: dict[int, list[int]] = {}
        push = trial.grid.push_messages

        def spy(messages: Any) -> Any:
            batch = list(messages)
            for message in batch:
                header = message.content.config_records["caafp"]
                if header["phase"] == "prune":
                    asked.setdefault(int(header["round"]), []).append(int(header["cluster"]))
            return push(batch)

        trial.grid.push_messages = spy  # type: ignore[method-assign]
        trial.start()
        return [{k: found.count(k) for k in (0, 1)} for found in asked.values()]

    assert all(count == {0: 1, 1: 1} for count in counts(cluster_floor=1))
    assert any(count != {0: 1, 1: 1} for count in counts(cluster_floor=0, prune_rounds=2))
