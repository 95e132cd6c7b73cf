"""FedCHAR with somebody else's app, which knows of us what docs/plugin.md says and no more.

Client k has the loss |w - t_k|^2 / 2 and descends by steps, so that all of it has a closed form.
"""

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from caafp_app import sparse_mod
from caafp_app.protocol.held import current_request
from caafp_app.protocol.messages import Action
from caafp_app.strategies import Clustering, FedCHAR
from tests.local_grid import LocalGrid
from tests.strategies.support import Recorder, nodes

COUNT, SHAPE = 6, (2, 4)
LAMBDA, STEP, EPOCHS = 0.5, 0.2, 3
SIZES = np.array([10.0, 11, 12, 13, 14, 15])

Vector = NDArray[np.float64]


def targets() -> Vector:
    """Clients k and k + 2 are alike [COUNT, values]."""
    rng = np.random.default_rng(2)
    groups = rng.normal(size=(2, 8)) * 2
    return groups[np.arange(COUNT) % 2] + rng.normal(size=(COUNT, 8)) * 0.3


def score(w: Vector, part: int) -> float:
    return float(1 / (1 + ((w - targets()[part]) ** 2).sum()))


def pack(w: Vector) -> ArrayRecord:
    return ArrayRecord([w.reshape(SHAPE).astype(np.float32)])


def unpack(record: ArrayRecord) -> Vector:
    return record.to_numpy_ndarrays()[0].astype(np.float64).ravel()


def make_app() -> ClientApp:
    app = ClientApp(mods=[sparse_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        part = int(context.node_config["partition-id"])
        target, w = targets()[part], unpack(message.content["arrays"])
        pull = float(message.content["config"].get("dual-weight", 0.0))
        trained = w
        for _ in range(EPOCHS):
            trained = trained - STEP * (trained - target)
        metrics = {"num-examples": int(SIZES[part]), "cluster-accuracy": score(w, part)}
        if pull:
            v = unpack(context.state["v"]) if "v" in context.state else w
            for _ in range(EPOCHS):
                v = v - STEP * ((v - target) + pull * (v - w))
            context.state["v"] = pack(v)
            request = current_request(context)
            if request is not None and request.action is Action.PERSONALISE:
                trained, metrics["personal-accuracy"] = v, score(v, part)
        records = {"arrays": pack(trained), "metrics": MetricRecord(metrics)}
        return Message(RecordDict(records), reply_to=message)

    return app


def descended(start: Vector, near: Vector, target: Vector, pull: float) -> Vector:
    """Where the steps on |v - t|^2 / 2 + pull / 2 |v - w|^2 end: the way left shrinks evenly."""
    least = (target + pull * near) / (1 + pull)
    return least + (1 - STEP * (1 + pull)) ** EPOCHS * (start - least)


def reference(start: Vector, within: int) -> tuple[Vector, list[Vector]]:
    """Return each client's cluster's w [COUNT, values], and all v before and after the end.

    One round of FedAvg, and `within` rounds in the two clusters.
    """
    t, share = targets(), SIZES[:, np.newaxis]
    group = np.arange(COUNT) % 2
    w = np.tile(start, (COUNT, 1))
    w = np.tile((share * descended(w, w, t, 0.0)).sum(axis=0) / share.sum(), (COUNT, 1))
    v = w
    for _ in range(within):
        v = descended(v, w, t, LAMBDA)
        moved = share * descended(w, w, t, 0.0)
        means = [moved[group == g].sum(axis=0) / share[group == g].sum() for g in (0, 1)]
        w = np.stack(means)[group]
    return w, [v, descended(v, w, t, LAMBDA)]


@pytest.mark.parametrize("within", [1, 3])
def test_w_is_its_clusters_mean_and_v_lives_on_the_client_near_it(within: int) -> None:
    first, seen = np.random.default_rng(1).normal(size=8), Recorder()
    strategy = FedCHAR(
        warmup_rounds=1,
        dual_weight=LAMBDA,
        clustering=Clustering(2, "complete"),
        one_exchange=True,
        observer=seen,
    )
    grid = LocalGrid(make_app(), nodes(COUNT))
    kept: dict[int, Vector] = {}

    def look() -> None:
        for context in grid.contexts.values():
            kept[int(context.node_config["partition-id"])] = unpack(context.state["v"])

    seen.at[1 + within, "cluster-warm-up"] = look
    result = strategy.start(grid, pack(first), num_rounds=1 + within)

    w, (v, personal) = reference(first.astype(np.float32).astype(np.float64), within)
    groups = [{f"part-{k:04d}" for k in range(g, COUNT, 2)} for g in (0, 1)]
    found = sorted(result.clusters.values(), key=lambda cluster: cluster.members)
    assert [set(cluster.members) for cluster in found] == groups
    for number, cluster in enumerate(found):
        np.testing.assert_allclose(unpack(cluster.arrays), w[number], atol=1e-5)
    np.testing.assert_allclose([kept[k] for k in range(COUNT)], v, atol=1e-5)
    look()
    np.testing.assert_allclose([kept[k] for k in range(COUNT)], personal, atol=1e-5)
    for part, client in enumerate(sorted(seen.report.clients, key=lambda one: one.label)):
        assert client.cluster_accuracy == pytest.approx(score(w[part], part), rel=1e-4)
        assert client.personal_accuracy == pytest.approx(score(personal[part], part), rel=1e-4)
    # Without the pull, or begun from w each time, v would be elsewhere.
    t = targets()
    assert np.abs(descended(v, w, t, 0.0) - personal).max() > 0.01
    assert np.abs(descended(w, w, t, LAMBDA) - personal).max() > 0.01
