"""FedCHAR: what is asked of whom and when; the maths is in `test_fedchar_foreign`."""

from typing import Any

import pytest
from flwr.app import Message

from caafp_app.errors import SettingsError
from caafp_app.protocol.objective import DUAL_WEIGHT
from caafp_app.strategies import Clustering
from caafp_app.strategies.fedchar import FedCHAR
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.strategies.support import nodes, run


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
