"""Finding out who is there: idle nodes, too few, equal labels, and those who come late."""

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from caafp_app import CAAFP
from caafp_app.datasets.synthetic import planted_groups
from caafp_app.errors import RunError
from caafp_app.runner import discovery
from caafp_app.runner.replies import MAX_REASON
from caafp_app.strategies import Clustering, Pruning
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.strategies.support import Recorder, Run, failed, members_of, nodes, prepare, run


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


class Plugin:
    """The numpy app on a grid whose nodes a test can change."""

    def __init__(self, configs: list[Mapping[str, Any]], **kwargs: Any) -> None:
        self.seen = Recorder()
        self.grid = LocalGrid(numpy_app.make_app(), configs, serialise=False)
        settings = {
            "warmup_rounds": 2,
            "cluster_rounds": 1,
            "prune_rounds": 2,
            "fraction_evaluate": 0.0,
            "personalise": False,
            "spare_below": 0,
            "clustering": Clustering(2),
            "pruning": Pruning(sparsity=0.5, every=1),
            "observer": self.seen,
        }
        self.strategy = CAAFP(**{**settings, **kwargs})

    def node_of(self, part: int) -> int:
        return next(
            node
            for node, context in self.grid.contexts.items()
            if context.node_config["partition-id"] == part
        )

    def start(self, **kwargs: Any) -> Any:
        return self.strategy.start(self.grid, numpy_app.initial(), num_rounds=5, **kwargs)

    def worked(self) -> set[int]:
        """Nodes that were asked for more than who they are."""
        requests = self.grid.requests
        return {
            message.metadata.dst_node_id
            for message in requests
            if message.content.config_records["caafp"]["action"] != "describe"
        }


def test_two_nodes_with_one_label_are_told_apart(logged: pytest.LogCaptureFixture) -> None:
    configs = [{**config, "label": f"pi-{k % 3}"} for k, config in enumerate(nodes(4))]
    plugin = Plugin(configs)
    result = plugin.start()
    assert "two nodes call themselves 'pi-0'; give each a label of its own" in logged.text
    members = [label for cluster in result.clusters.values() for label in cluster.members]
    assert sorted(members) == ["pi-0", "pi-1", "pi-2"]
    (idle,) = set(plugin.grid.contexts) - plugin.worked()
    assert plugin.grid.contexts[idle].node_config["label"] == "pi-0"
    assert all(record.asked <= 3 for record in plugin.seen.rounds)


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
            assert (labels, round) == ((), 0)
            self.deadlines.append(deadline)

    def on_answer(self, label: str, ok: bool, reason: str = "") -> None:
        if self._describing:
            self.answers.append((label, ok, reason))


def test_an_observer_is_told_who_answers_to_describe() -> None:
    seen = Asking()
    plugin = Plugin(
        [{**config, "label": f"pi-{k % 3}"} for k, config in enumerate(nodes(5))], observer=seen
    )
    broken = plugin.node_of(2)

    def tamper(request: Message, reply: Message) -> Message:
        fails = request.metadata.dst_node_id == broken
        return failed(request, reply, why="OSError: no such file") if fails else reply

    plugin.grid.tamper = tamper
    began = time.time()
    plugin.start(timeout=600.0)
    assert len(seen.deadlines) == 1
    assert began + 600.0 <= seen.deadlines[0] <= time.time() + 600.0
    assert sorted(label for label, ok, _ in seen.answers if ok) == ["pi-0", "pi-1"]
    refused = {label: reason for label, ok, reason in seen.answers if not ok}
    assert "OSError: no such file" in refused.pop(f"node {broken:x}")
    idle = set(plugin.grid.contexts) - plugin.worked() - {broken}
    assert set(refused) == {f"node {node:x}" for node in idle}
    assert all("two nodes call themselves" in reason for reason in refused.values())


def test_nobody_there_stops_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "POLL_SECONDS", 0.01)
    plugin = Plugin(nodes(2), min_available_nodes=3)
    with pytest.raises(RunError, match=r"expected 3 SuperNodes \(min_available_nodes\), found 2"):
        plugin.start(timeout=0.05)
    assert plugin.grid.requests == []


def test_the_start_waits_for_nodes_to_connect(
    monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    plugin = Plugin(nodes(4), min_available_nodes=4)
    late = plugin.node_of(3)
    plugin.grid.offline.add(late)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            plugin.grid.offline.clear()

    monkeypatch.setattr(discovery.time, "sleep", sleep)
    plugin.start()
    assert len(pauses) == 3
    assert "waiting for SuperNodes: 3 of 4" in logged.text
    assert plugin.seen.rounds[0].asked == 4


def test_a_reason_of_any_length_is_cut() -> None:
    def tamper(request: Message, reply: Message) -> Message:
        reply.content.config_records["caafp"]["action"] = "x" * 10**6
        return reply

    plugin = Plugin(nodes(2))
    plugin.grid.tamper = tamper
    with pytest.raises(RunError, match=r"no client takes part: .*'action'") as error:
        plugin.start()
    assert len(str(error.value)) < 2 * MAX_REASON


def test_if_no_node_takes_part_the_reasons_are_given() -> None:
    plugin = Plugin(nodes(2))

    plugin.grid.tamper = partial(failed, why="OSError: no such file")
    with pytest.raises(RunError, match="no client takes part: client-failed: OSError: no such"):
        plugin.start()
    silent = Plugin(nodes(2))
    silent.grid.tamper = lambda request, reply: None
    with pytest.raises(RunError, match="no client takes part: no node answered in time"):
        silent.start(timeout=0.05)


def test_a_node_that_did_not_answer_to_describe_is_asked_again() -> None:
    plugin = Plugin(nodes(4))
    slow = plugin.node_of(3)
    lost: list[Message] = []

    def lose_first(request: Message, reply: Message) -> Message | None:
        if request.metadata.dst_node_id == slow and not lost:
            lost.append(reply)
            return None
        return reply

    plugin.grid.tamper = lose_first
    result = plugin.start(timeout=0.1)
    assert plugin.seen.round(1).asked == 4  # discovered anew before the first round
    assert sum(len(c.members) for c in result.clusters.values()) == 4


def test_late_joiners_go_to_the_cluster_of_their_planted_group() -> None:
    everyone = {
        "synthetic-users": 9,
        "synthetic-windows": 60,
        "clusters": 3,
        "clients-per-round": 9,
        "prune-rounds": 2,
    }
    setup = prepare(everyone)
    late = {
        node
        for node, context in setup.grid.contexts.items()
        if int(context.node_config["partition-id"]) % 3 == 2
    }
    setup.grid.offline |= late
    setup.seen.at[3, "prune"] = setup.grid.offline.clear
    done = setup.start()

    groups = planted_groups(setup.settings.data)
    final = members_of(done.result)
    assert sorted(done.seen.labels) == [f"user-{k:02d}" for k in range(9) if k % 3 != 2]
    assert sorted(final) == [f"user-{k:02d}" for k in range(9)]
    cluster_of = {int(groups[k]): done.seen.labels[f"user-{k:02d}"] for k in range(9) if k % 3 != 2}
    assert sorted(cluster_of.values()) == [0, 1, 2]
    for k in range(9):
        assert final[f"user-{k:02d}"] == cluster_of[int(groups[k])]
    assert placed(done) == 3
    assert done.seen.round(4, "cluster").asked == 3
    assert done.seen.round(4).asked == 9  # in the round in which they came
    report = done.seen.report
    assert report is not None
    assert all(client.personal_accuracy is not None for client in report.clients)


def placed(done: Run) -> int:
    """How many clients trained to be placed after the clustering itself."""
    return sum(r.asked for r in done.seen.rounds if r.phase == "cluster" and r.round > 2)


@pytest.mark.parametrize("how", ["error", "silent"])
def test_a_late_joiner_that_cannot_be_placed_does_not_stop_the_run(
    how: str, logged: pytest.LogCaptureFixture
) -> None:
    plugin = Plugin(nodes(5))
    late = plugin.node_of(4)
    plugin.grid.offline.add(late)

    def fail(request: Message, reply: Message) -> Message | None:
        header = request.content.config_records["caafp"]
        if request.metadata.dst_node_id != late or header["phase"] != "cluster":
            return reply
        return None if how == "silent" else failed(request, reply)

    plugin.grid.tamper = fail
    plugin.seen.at[3, "cluster-warm-up"] = plugin.grid.offline.clear
    result = plugin.start(timeout=1.5)
    assert "part-0004: no update to place it by" in logged.text
    assert "part-0004" in result.clusters[0].members
    assert plugin.seen.round(5).answered == 5


def test_a_late_joiner_before_the_clustering_is_clustered_with_the_others() -> None:
    plugin = Plugin(nodes(6))
    late = plugin.node_of(5)
    plugin.grid.offline.add(late)
    plugin.seen.at[1, "warm-up"] = plugin.grid.offline.clear
    plugin.start()
    assert plugin.seen.round(1).asked == 5
    assert plugin.seen.round(2).asked == 6
    assert len(plugin.seen.labels) == 6


def test_clients_that_left_are_not_asked_and_their_cluster_goes_on() -> None:
    plugin = Plugin(nodes(6))
    gone = [plugin.node_of(part) for part in (1, 3, 5)]  # a whole group
    plugin.seen.at[3, "cluster-warm-up"] = lambda: plugin.grid.offline.update(gone)
    kept: list[np.ndarray] = []
    result = plugin.start()
    assert plugin.seen.round(3).asked == 6
    assert plugin.seen.round(4).asked == plugin.seen.round(5).asked == 3
    # An empty cluster keeps its model and its mask keeps up.
    assert len(result.clusters) == 2
    for cluster in result.clusters.values():
        assert cluster.density == pytest.approx(0.5)
        kept.append(cluster.arrays["0"].numpy())
        assert np.isfinite(kept[-1]).all()


def test_a_floor_asks_every_cluster_in_every_round() -> None:
    def counts(**kwargs: Any) -> list[dict[int, int]]:
        plugin = Plugin(nodes(7), clients_per_round=2, seed=1, **kwargs)
        asked: dict[int, list[int]] = {}
        push = plugin.grid.push_messages

        def spy(messages: Any) -> Any:
            batch = list(messages)
            for message in batch:
                header = message.content.config_records["caafp"]
                if header["phase"] == "prune":
                    asked.setdefault(int(header["round"]), []).append(int(header["cluster"]))
            return push(batch)

        plugin.grid.push_messages = spy  # type: ignore[method-assign]
        plugin.start()
        return [{k: found.count(k) for k in (0, 1)} for found in asked.values()]

    assert all(count == {0: 1, 1: 1} for count in counts(cluster_floor=1))
    assert any(count != {0: 1, 1: 1} for count in counts(cluster_floor=0, prune_rounds=2))
