"""An app and its mods find FedAvg's records, whichever side of `sparse_mod` they stand on."""

from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import (
    LocalDpMod,
    adaptiveclipping_mod,
    arrays_size_mod,
    fixedclipping_mod,
    message_size_mod,
)
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.serverapp.strategy import FedAvg

from caafp_app import CAAFP, current_mask, current_request, sparse_mod
from caafp_app.errors import RunError
from caafp_app.strategies import Clustering, Pruning
from tests.foreign.apps import (
    CLIENTS,
    CONFIG,
    NUM_ROUNDS,
    App,
    all_exchanges,
    arrays_of,
    grid_of,
    record_of,
)


def shape_of(records: Any) -> list[tuple[str, type, list[str]]]:
    return [(name, type(record), list(record)) for name, record in records.items()]


def test_the_app_gets_the_records_of_fedavg_in_their_order_and_no_round_beyond_the_last() -> None:
    ours, theirs = App(), App()
    all_exchanges(ours, sparse_mod)
    FedAvg().start(
        grid_of(theirs.make()), record_of(arrays_of()), train_config=ConfigRecord(CONFIG)
    )
    for kind in ("train", "evaluate"):
        (wanted,) = {str(shape_of(r)) for k, r in theirs.seen if k == kind}
        assert {str(shape_of(r)) for k, r in ours.seen if k == kind} == {wanted}
    rounds = {records["config"]["server-round"] for _, records in ours.seen}
    assert rounds == set(range(1, NUM_ROUNDS + 1))


@pytest.mark.parametrize(
    "mod",
    [
        fixedclipping_mod,
        adaptiveclipping_mod,
        LocalDpMod(5.0, 0.001, 10.0, 1e-5),
        message_size_mod,
        arrays_size_mod,
    ],
    ids=lambda mod: getattr(mod, "__name__", type(mod).__name__),
)
def test_flowers_mods_work_after_it(mod: Mod) -> None:
    def trains_only(message: Message, context: Context, call: ClientAppCallable) -> Message:
        # Flower's clipping mods are for training; its docs put them on @app.train.
        if message.metadata.message_type != "train":
            return call(message, context)
        return mod(message, context, call)

    result = all_exchanges(App(), sparse_mod, trains_only)
    assert len(result.train_metrics_clientapp) == NUM_ROUNDS
    assert all(len(c.members) for c in result.clusters.values())
    assert {k.personal_sparsity for k in result.report.clients} == {0.5}


def reads_all(message: Message, context: Context, call: ClientAppCallable) -> Message:
    assert 1 <= message.content["config"]["server-round"] <= NUM_ROUNDS
    assert next(iter(message.content.config_records.values()))["server-round"]
    assert all(a.numpy().size for a in message.content["arrays"].values())
    reply = call(message, context)
    if message.metadata.message_type == "train":
        assert all(a.numpy().size for a in reply.content["arrays"].values())
    assert next(iter(reply.content.metric_records.values()))["num-examples"] >= 0
    return reply


@pytest.mark.parametrize(
    "mod",
    [message_size_mod, arrays_size_mod, reads_all, sparse_mod],
    ids=["size", "arrays", "reader", "twice"],
)
def test_a_mod_that_looks_at_messages_works_before_it_and_so_does_the_mod_twice(mod: Mod) -> None:
    assert len(all_exchanges(App(), mod, sparse_mod).train_metrics_clientapp) == NUM_ROUNDS


@pytest.mark.parametrize(
    "mod", [LocalDpMod(1.0, 0.1, 1.0, 1e-5), fixedclipping_mod, adaptiveclipping_mod]
)
def test_a_mod_that_changes_the_model_is_told_its_side(mod: Mod) -> None:
    with pytest.raises(RunError, match=r"put it after, as in ClientApp\(mods=\[sparse_mod"):
        all_exchanges(App(), mod, sparse_mod)


def test_what_is_ours_is_asked_of_the_context() -> None:
    asked: list[Any] = []

    def asks(message: Message, context: Context, call: ClientAppCallable) -> Message:
        asked.append(current_request(context))
        return call(message, context)

    all_exchanges(App(), sparse_mod, asks)
    actions = [request.action for request in asked]
    assert set(actions) == {"train", "evaluate", "personalise", "evaluate-personal"}
    assert actions.count("personalise") == CLIENTS
    assert {request.phase for request in asked} >= {"warm-up", "cluster", "prune", "evaluate"}
    assert any(request.gradient_counts for request in asked)

    asked.clear()
    FedAvg().start(grid_of(App().make(asks)), record_of(arrays_of()), num_rounds=1)
    assert set(asked) == {None}


def test_the_app_has_its_state_for_itself() -> None:
    """It may take the first record, or throw all away: what is ours is out of its sight."""
    masks: list[Any] = []

    def counts(message: Message, context: Context, call: ClientAppCallable) -> Message:
        masks.append(current_mask(context))
        seen = next(iter(context.state.config_records.values()), {"n": 0})["n"]
        assert list(context.state) in ([], ["mine"])
        context.state = RecordDict({"mine": ConfigRecord({"n": seen + 1})})
        return call(message, context)

    grid = grid_of(App().make(sparse_mod, counts))
    strategy = CAAFP(clustering=Clustering(1), pruning=Pruning(sparsity=0.5))
    strategy.start(grid, record_of(arrays_of()), num_rounds=4)
    assert {one.state["mine"]["n"] for one in grid.contexts.values()} == {8}
    assert masks[0] is None
    assert masks[-1] is not None
    assert len(grid.requests) == 9 * CLIENTS  # nobody had lost what it is to hold


@pytest.mark.parametrize(
    "mods", [(), (arrays_size_mod,), (message_size_mod,)], ids=["none", "one", "another"]
)
def test_an_app_without_the_mod_is_told_to_add_it(mods: tuple[Mod, ...]) -> None:
    with pytest.raises(RunError, match=r"ClientApp\(mods=\[sparse_mod\]\)"):
        all_exchanges(App(), *mods)


def test_a_mod_on_either_side_as_the_guide_shows_it() -> None:
    plain, seen = App().make(), []

    def counts(message: Message, context: Context, call: ClientAppCallable) -> Message:
        reply = call(message, context)
        if message.metadata.message_type == "train":
            seen.append(max(abs(a.numpy()).max() for a in reply.content["arrays"].values()))
        return reply

    app = ClientApp(mods=[message_size_mod, sparse_mod])

    @app.train(mods=[counts, fixedclipping_mod])
    def train(message: Message, context: Context) -> Message:
        return plain(message, context)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return plain(message, context)

    strategy = CAAFP(clustering=Clustering(clusters=1), pruning=Pruning(sparsity=0.0))
    result = strategy.start(
        grid_of(app), record_of(arrays_of()), train_config=ConfigRecord(CONFIG), num_rounds=3
    )
    assert len(result.evaluate_metrics_clientapp) == 3
    assert len(seen) == 3 * CLIENTS
