"""Devices of different strength train nested parts of one model."""

from dataclasses import replace

import numpy as np
import pytest

from caafp_app.errors import SettingsError
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.messages import Action
from caafp_app.protocol.objective import CUT_FILTERS
from caafp_app.runner.model import MeanUpdate, SparseModel
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client
from caafp_app.strategies import CAHFP, HeteroFL
from caafp_app.strategies.levels import Nested
from tests.strategies.support import Run, Setup, accuracies, bits_of, prepare, run

SHARES = "1,0.5,0.25"
STRENGTHS = (1.0, 0.5, 0.25)


def network(seed: int = 0) -> SparseModel:
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (8, 3, 5),
        "conv1.bias": (8,),
        "conv2.weight": (8, 8, 5),
        "conv2.bias": (8,),
        "dense.weight": (4, 16),
        "dense.bias": (4,),
        "scale": (),
    }
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    layout = Layout.of(arrays)
    return SparseModel.dense(layout, layout.flatten(arrays))


def clients(count: int = 6) -> tuple[Client, ...]:
    return tuple(Client(f"c{i}", i, examples=10, strength=STRENGTHS[i % 3]) for i in range(count))


@pytest.mark.parametrize("by_filters", [False, True])
def test_an_update_of_a_part_is_put_where_the_part_was_cut_out(by_filters: bool) -> None:
    model = network()
    nested = Nested(model, STRENGTHS, by_filters=by_filters)
    queries = nested.split(Query(Action.TRAIN, model, clients(), wants=frozenset({"squares"})))
    assert [query.level for query in queries] == [0, 1, 2]
    assert [[client.label for client in query.clients] for query in queries] == [
        ["c0", "c3"],
        ["c1", "c4"],
        ["c2", "c5"],
    ]
    assert queries[0].model is model
    before = np.ones(model.layout.weight_count, bool)
    whole = model.arrays()
    for query in queries[1:]:
        mask, part = nested.mask(-1, model, query.level), query.model
        assert not np.any(mask.bits & ~before)
        before = mask.bits
        assert (CUT_FILTERS in query.config) == by_filters
        assert part.mask.count == mask.count
        assert part.whole_count == model.layout.weight_count
        given = part.layout.flatten(part.arrays())
        # What the part has, times two: the whole model then doubles there and nowhere else.
        step = MeanUpdate(part.mask, part.mask.select(given.weights).astype(float), given.rest, 1.0)
        moved = model.moved(nested.widened(mask, step)).arrays()
        inside = mask.by_layer()
        for name, array in moved.items():
            changed = array != whole[name]
            np.testing.assert_array_equal(array[changed], 2 * whole[name][changed])
            if name in inside:
                np.testing.assert_array_equal(changed, inside[name])
            elif not by_filters or name in ("dense.bias", "scale"):
                assert changed.all()
            else:
                kept = inside[name.replace("bias", "weight")].any(axis=(1, 2))
                np.testing.assert_array_equal(changed, kept)


def test_a_device_below_all_levels_takes_the_smallest() -> None:
    weak = replace(clients(1)[0], strength=0.01)
    assert Nested(network(), STRENGTHS).level(weak) == 2


def sizes_sent(ended: Run) -> dict[int, dict[int, int]]:
    """Bytes of the weights that are sent to train, by round and the client's number."""
    found: dict[int, dict[int, int]] = {}
    for passage in ended.grid.passages:
        header = passage.header
        asked = passage.direction == "down" and header["action"] == "train"
        if asked and header["phase"] != "cluster":
            place = ended.grid.contexts[passage.node].node_config["partition-id"]
            by_client = found.setdefault(int(header["round"]), {})
            by_client[int(place)] = passage.arrays["values"]
    return found


def at_one_level(setup: Setup) -> Setup:
    """All devices say that they are strong."""
    for context in setup.grid.contexts.values():
        context.node_config["level"] = 1.0
    return setup


@pytest.fixture(scope="module", params=["weight", "filter"])
def ended(request: pytest.FixtureRequest) -> tuple[str, Run]:
    return request.param, run({"levels": SHARES, "granularity": request.param, "regrow": 0.1})


def test_a_weak_device_sends_less_and_is_left_with_a_smaller_model(ended: tuple[str, Run]) -> None:
    granularity, result = ended
    compared = 0
    for sizes in sizes_sent(result).values():
        full = [size for place, size in sizes.items() if place % 3 == 0]
        for place, size in sizes.items():
            if full and granularity == "weight":
                assert size == pytest.approx(STRENGTHS[place % 3] * full[0], rel=0.01)
            elif full:
                assert size <= STRENGTHS[place % 3] * full[0]
            compared += bool(full and place % 3)
    assert compared > 5
    report = result.result.report
    label_of = result.label_of
    left = {client.label: 1 - (client.personal_sparsity or 0.0) for client in report.clients}
    for node, context in result.grid.contexts.items():
        share = 0.3 * STRENGTHS[int(context.node_config["partition-id"]) % 3]
        if granularity == "weight":
            assert left[label_of[node]] == pytest.approx(share, abs=0.01)
        else:
            assert left[label_of[node]] <= share + 0.01
    assert all(client.personal_accuracy is not None for client in report.clients)


def test_with_all_devices_at_one_level_results_are_those_without_levels() -> None:
    with_levels = at_one_level(prepare({"levels": SHARES})).start()
    without = run()
    assert bits_of(with_levels.result) == bits_of(without.result)
    assert accuracies(with_levels.result.report) == accuracies(without.result.report)


@pytest.mark.parametrize("strategy", ["heterofl", "cahfp"])
def test_the_rivals_train_narrower_networks_as_well(strategy: str) -> None:
    result = run({"strategy": strategy, "levels": SHARES, "local-epochs": 4})
    report = result.result.report
    assert list(report.clusters) == [-1]
    left = sorted(1 - (client.personal_sparsity or 0.0) for client in report.clients)
    assert left[0] < 0.25 < left[2] < 0.5 < left[4] == left[5] == 1.0
    assert np.mean([client.personal_accuracy or 0.0 for client in report.clients]) > 0.5


def test_heterofl_cuts_the_first_filters_and_cahfp_those_of_largest_curvature() -> None:
    model = network()
    for strategy, first in ((HeteroFL(), True), (CAHFP(), False)):
        method = strategy.method(model, strategy.plan(10))
        mask = method.nested.mask(-1, model, 2).by_layer()["conv1.weight"]
        kept = np.flatnonzero(mask.any(axis=(1, 2)))
        assert (kept.tolist() == [0, 1]) == first
    assert [step.round for step in CAHFP(every=3).plan(9) if step.mask_update] == [3, 6]
    with pytest.raises(SettingsError, match="every: expected at least 1 round"):
        CAHFP(every=0)
