"""EfficientFL against its rule in numpy, and with our own app."""

import numpy as np
import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from caafp_app.datasets.resolve import load_client
from caafp_app.errors import SettingsError
from caafp_app.models import build_model
from caafp_app.protocol.messages import to_record
from caafp_app.protocol.mod import sparse_mod
from caafp_app.strategies.efficientfl import EfficientFL
from caafp_app.training import evaluate, load_arrays
from tests.local_grid import LocalGrid
from tests.strategies.support import Snapshots, nodes, run

SHAPES = {
    "conv.weight": (6, 2, 3),
    "conv.bias": (6,),
    "dense.weight": (4, 12),
    "dense.bias": (4,),
}
WEIGHTS = 36 + 48


def initial() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def shrinker(shapes: list[dict[str, tuple[int, ...]]]) -> ClientApp:
    """Client k has k + 1 examples and takes (k + 1) / 10 off the arrays it gets, of any shapes."""
    app = ClientApp(mods=[sparse_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        part = int(context.node_config["partition-id"])
        arrays = {name: array.numpy() for name, array in message.content["arrays"].items()}
        shapes.append({name: array.shape for name, array in arrays.items()})
        moved = to_record({n: np.float32(a * (1 - (part + 1) / 10)) for n, a in arrays.items()})
        metrics = MetricRecord({"num-examples": part + 1})
        return Message(RecordDict({"arrays": moved, "metrics": metrics}), reply_to=message)

    return app


def reference(rounds: int, clients: int, kept: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The full network after so many rounds, and the filters of the last one."""
    full, parts = initial(), np.arange(clients)
    share = np.average(1 - (parts + 1) / 10, weights=parts + 1)
    filters = np.arange(0)
    for _ in range(rounds):
        norms = np.abs(full["conv.weight"]).sum((1, 2))
        filters = np.sort(np.argsort(-norms)[:kept])
        columns = np.concatenate([[2 * f, 2 * f + 1] for f in filters])
        full["conv.weight"][filters] *= share
        full["conv.bias"][filters] *= share
        full["dense.weight"][:, columns] *= share
        full["dense.bias"] *= share
    return full, filters


def test_the_strongest_filters_travel_as_a_small_network_and_are_written_back() -> None:
    shapes: list[dict[str, tuple[int, ...]]] = []
    kept = Snapshots()
    strategy = EfficientFL(sparsity=0.5, personalise=False, fraction_evaluate=0.0, checkpoints=kept)
    grid = LocalGrid(shrinker(shapes), nodes(3))
    result = strategy.start(grid, to_record(initial()), num_rounds=5)
    full, filters = reference(5, 3, kept=3)
    method = kept.states[5]["method"]
    for name, array in full.items():
        np.testing.assert_allclose(method["full"][name], array, atol=1e-5)
    chosen = [reference(rounds, 3, kept=3)[1].tolist() for rounds in range(1, 6)]
    assert len(set(map(tuple, chosen))) > 1, "the choice has to change for this to be a test"
    small = {
        "conv.weight": (3, 2, 3),
        "conv.bias": (3,),
        "dense.weight": (4, 6),
        "dense.bias": (4,),
    }
    assert shapes == [small] * 15
    headers = [p.header for p in grid.passages if p.direction == "down" and p.header["round"]]
    assert ["layout" in header for header in headers] == [True] * 3 + [False] * 12
    # What is published has the full shapes, and zeros where nothing was trained.
    arrays = {name: array.numpy() for name, array in result.arrays.items()}
    assert {name: array.shape for name, array in arrays.items()} == SHAPES
    gone = np.setdiff1d(np.arange(6), filters)
    assert not arrays["conv.weight"][gone].any()
    assert not arrays["conv.bias"][gone].any()
    assert not arrays["dense.weight"].reshape(4, 6, 2)[:, gone].any()
    np.testing.assert_allclose(arrays["conv.weight"][filters], full["conv.weight"][filters], 1e-4)
    assert result.clusters[-1].density == (18 + 24) / WEIGHTS
    assert result.clusters[-1].mask["dense.weight"].sum() == 24


def test_models_without_convolutions_are_refused_before_anybody_is_asked() -> None:
    grid = LocalGrid(shrinker([]), nodes(2))
    with pytest.raises(SettingsError, match="expected a network with convolutions"):
        EfficientFL().start(grid, to_record({"w": np.ones((3, 4))}), num_rounds=1)
    assert not grid.requests
    with pytest.raises(SettingsError, match="sparsity: expected at least 0 and below 1"):
        EfficientFL(sparsity=1.0)


def test_our_own_app_trains_the_small_network_and_reports_what_is_not_there() -> None:
    done = run({"strategy": "efficientfl", "evaluate-every": 4, "average-last": 2})
    cluster = done.seen.report.clusters[-1]
    size = {name: array.shape for name, array in cluster.arrays.items()}
    positions = size["dense.weight"][1] // 64
    kept = 19 * size["conv1.weight"][1] * 5 + 19 * 19 * 5 + 32 * 19 * positions
    kept += size["head.weight"][0] * 32
    whole = sum(int(np.prod(shape)) for shape in size.values() if len(shape) > 1)
    assert cluster.density == pytest.approx(kept / whole)
    assert {c.personal_sparsity for c in done.seen.report.clients} == {1 - kept / whole}
    assert [r.density for r in done.seen.rounds] == [{-1: kept / whole}] * len(done.seen.rounds)
    trains = [p for p in done.grid.passages if p.header.get("phase") == "train"]
    assert trains
    assert max(p.nbytes for p in trains) < 4 * kept + 4_000
    # The scores are those of the network that is published, in its full shape.
    data = {d.label: d for d in (load_client(done.settings.data, n) for n in nodes(6))}
    for client in done.seen.report.clients:
        own = data[client.label]
        model = build_model("har-cnn", own.input_shape, len(own.class_names), seed=0)
        load_arrays(model, cluster.arrays)
        score = evaluate(model, own.test_x, own.test_y)
        assert score.accuracy == client.cluster_accuracy
        assert score.loss == pytest.approx(client.cluster_loss, rel=1e-4)
