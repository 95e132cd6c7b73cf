"""Queries in, sums out: a runner alone, with somebody else's app and no strategy."""

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord

from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action
from caafp_app.pruning.influence import NORM_FACTOR
from caafp_app.runner.discovery import discover
from caafp_app.runner.exchange import Quorum
from caafp_app.runner.model import SparseModel
from caafp_app.runner.options import Options
from caafp_app.runner.query import Query
from caafp_app.runner.runner import Answers, Runner
from tests.local_grid import LocalGrid, Tamper
from tests.strategies import numpy_app
from tests.strategies.support import Recorder, failed, nodes

CLIENTS = 5
ARRAYS = {str(k): array for k, array in enumerate(numpy_app.initial().to_numpy_ndarrays())}
LAYOUT = Layout.of(ARRAYS)
MODEL = SparseModel.dense(LAYOUT, LAYOUT.flatten(ARRAYS))
EVEN = MODEL.with_mask(Mask(LAYOUT, np.arange(LAYOUT.weight_count) % 2 == 0))


class World:
    """A runner that knows its clients."""

    def __init__(self, tamper: Tamper | None = None, **options: Any) -> None:
        self.grid = LocalGrid(numpy_app.make_app(), nodes(CLIENTS))
        self.seen = Recorder()
        self.runner = Runner(self.grid, self.seen, Options(timeout=0.3, **options))
        discover(self.runner)
        self.clients = tuple(self.runner.roster.reachable())
        self.grid.tamper = tamper

    def ask(self, *queries: Query, round_: int = 1) -> Answers:
        return self.runner.ask(queries, "prune", round_)

    def train(self, model: SparseModel = MODEL, **query: Any) -> Answers:
        return self.ask(Query(Action.TRAIN, model, self.clients, **query))


def trained(part: int, model: SparseModel = MODEL) -> tuple[np.ndarray, np.ndarray, int]:
    """What a client's update has to be: of weights [P], of the rest, and its examples."""
    after, examples = numpy_app.trained(part, list(model.arrays().values()))
    flat = LAYOUT.flatten(dict(zip(ARRAYS, after, strict=True)))
    return flat.weights - model.flat.weights, flat.rest - model.flat.rest, examples


def clipped(parts: list[Any]) -> list[Any]:
    """Scale each vector down to a multiple of the median norm of its kind."""
    most = [NORM_FACTOR * median(float(np.linalg.norm(p[k])) for p in parts) for k in (0, 1)]

    def clip(vector: np.ndarray, longest: float) -> np.ndarray:
        return vector * min(1.0, longest / float(np.linalg.norm(vector)))

    return [(clip(a, most[0]), clip(b, most[1]), n) for a, b, n in parts]


@pytest.mark.parametrize(
    ("terms", "query", "weigh"),
    [
        ({}, {}, lambda n: n),
        ({"uniform": True}, {}, lambda n: 1),
        ({}, {"uniform": True}, lambda n: 1),
        ({"robust": True}, {}, lambda n: n),
        ({"robust": True}, {"uniform": True}, lambda n: 1),
    ],
    ids=["examples", "uniform-run", "uniform-query", "bounded", "bounded-uniform"],
)
@pytest.mark.parametrize("model", [MODEL, EVEN], ids=["dense", "sparse"])
def test_the_sum_of_a_query_is_the_weighted_mean_of_its_clients(
    terms: dict[str, Any],
    query: dict[str, Any],
    weigh: Callable[[int], float],
    model: SparseModel,
) -> None:
    world = World(**terms)
    for client in world.clients:
        client.examples = 40 + 3 * int(client.label[-4:])
    answers = world.train(model, **query)
    (summed,) = answers.summed
    found, parts = summed.mean(), [trained(k, model) for k in range(CLIENTS)]
    if terms.get("robust"):
        parts = clipped(parts)
    weights = [weigh(examples) for *_, examples in parts]
    moved, rest = (np.average([part[k] for part in parts], axis=0, weights=weights) for k in (0, 1))
    np.testing.assert_allclose(found.values, moved[model.mask.bits], atol=1e-6)
    np.testing.assert_allclose(found.rest, rest, atol=1e-6)
    assert (found.weight, summed.replies, answers.enough) == (sum(weights), CLIENTS, True)


def test_each_query_has_a_sum_of_its_own_model_and_clients() -> None:
    world = World()
    one, other = world.clients[:2], world.clients[2:]
    queries = Query(Action.TRAIN, MODEL, one), Query(Action.TRAIN, EVEN, other, 3)
    answers = world.ask(*queries)
    assert [summed.query for summed in answers.summed] == list(queries)
    assert [summed.replies for summed in answers.summed] == [2, 3]
    assert answers.tally.asked == [client.label for client in world.clients]
    told = [p.header["cluster"] for p in world.grid.passages if p.header.get("phase") == "prune"]
    assert sorted(int(number) for number in told) == [-1, -1, 3, 3, 3]
    assert [client.held for client in world.clients] == [MODEL.mask.digest] * 2 + [
        EVEN.mask.digest
    ] * 3


def test_wanted_sums_gradients_and_single_updates_come_if_asked_for() -> None:
    world = World()
    (plain,) = world.train(EVEN).summed
    assert (plain.sums, plain.gradient) == ({}, None)
    wants = frozenset({"squares", "signs"})
    (summed,) = world.train(EVEN, wants=wants, gradients=(4, 4)).summed
    assert summed.sums.keys() == wants
    parts = [trained(k, EVEN) for k in range(CLIENTS)]
    signs = sum(n * np.sign(moved[EVEN.mask.bits]) for moved, _, n in parts)
    np.testing.assert_array_equal(summed.sums["signs"].total.read(slice(0, EVEN.mask.count)), signs)
    inactive = summed.gradient.mean()
    assert inactive.any()
    assert not inactive[EVEN.mask.bits].any()
    (held,) = world.train(EVEN, each=lambda update: update.values.copy()).summed
    for client in world.clients:
        moved, _, _ = trained(int(client.label[-4:]), EVEN)
        np.testing.assert_allclose(held.kept[client.label], moved[EVEN.mask.bits], atol=1e-6)


def test_of_each_client_metrics_are_kept_and_no_arrays() -> None:
    """The server's memory is of queries, whatever the clients send."""

    def more(request: Message, reply: Message) -> Message:
        reply.content["debug"] = numpy_app.initial()
        reply.content["note"] = ConfigRecord({"battery": 0.5})
        return reply

    contents = World(more).train().tally.contents
    assert len(contents) == CLIENTS
    assert {frozenset(content) for content in contents.values()} == {frozenset({"metrics", "note"})}


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_enough_is_as_many_usable_replies_as_the_quorum(lost: int) -> None:
    def tamper(request: Message, reply: Message) -> Message:
        late = reply.content.config_records["caafp"]["label"] < f"part-{lost:04d}"
        return failed(request, reply) if late else reply

    world = World(tamper, quorum=Quorum(4, 0.0))
    answers = world.train()
    assert (len(answers.tally.contents), len(answers.tally.refusals)) == (CLIENTS - lost, lost)
    assert answers.enough == (lost < 2)
    queries = [Query(Action.TRAIN, MODEL, world.clients)]
    assert world.runner.ask(queries, "cluster", 1, needed=False).enough
    assert world.runner.ask(queries, "personalise", 1).enough


def test_the_observer_is_told_when_an_exchange_is_closed() -> None:
    def refuse(request: Message, reply: Message) -> Message:
        reply.content["metrics"] = MetricRecord({"num-examples": -1})
        return reply

    world = World(refuse)
    query = Query(Action.TRAIN, EVEN, world.clients, 2)
    answers = world.runner.ask([query], "prune", 4)
    assert world.seen.rounds == []
    world.runner.close(answers, {2: 0.5}, mask_updated=True)
    (record,) = world.seen.rounds
    assert (record.round, record.phase, record.refused) == (4, "prune", CLIENTS)
    assert (record.density, record.mask_updated, record.used) == ({2: 0.5}, True, True)
    world.runner.hold([query], "cluster", 5)
    assert [(r.round, r.phase, r.density) for r in world.seen.rounds[1:]] == [
        (5, "cluster", {2: 0.5})
    ]
    assert record.bytes_up == world.runner.ledger.exchange("prune", 4).up > 0
