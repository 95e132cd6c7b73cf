"""Subclasses, wrappers and loops of somebody else's, around our strategy as around Flower's."""

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp.mod import adaptiveclipping_mod, fixedclipping_mod
from flwr.clientapp.typing import ClientAppCallable
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
)

from caafp_app import CAAFP, sparse_mod
from caafp_app.errors import RunError
from caafp_app.strategies import Clustering, FedSNIP, Pruning
from tests.foreign.apps import (
    CLIENTS,
    App,
    all_exchanges,
    arrays_of,
    as_fedavg,
    grid_of,
    numpy_of,
    record_of,
)

ROUNDS = 4


def same(one: ArrayRecord, two: ArrayRecord, atol: float = 1e-6) -> None:
    assert list(one) == list(two)
    for name in one:
        np.testing.assert_allclose(numpy_of(one)[name], numpy_of(two)[name], rtol=0, atol=atol)


def start(strategy: Any, *mods: Any, rounds: int = ROUNDS) -> Any:
    config = ConfigRecord({"lr": 0.3})
    grid = grid_of(App().make(*mods))
    return strategy.start(grid, record_of(arrays_of()), num_rounds=rounds, train_config=config)


def saving(base: type[Any]) -> type[Any]:
    """As Flower's documentation saves models: in an overridden `aggregate_train`."""

    class Saving(base):  # type: ignore[misc]
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            arrays, metrics = super().aggregate_train(server_round, replies)
            kept[type(self).__mro__[1]].append(arrays)
            return arrays, metrics

    kept[base] = []
    return Saving


kept: dict[type[Any], list[ArrayRecord]] = {}


def test_an_overridden_aggregate_train_saves_the_mean_model_of_each_round() -> None:
    ours = start(as_fedavg(saving(CAAFP)), sparse_mod)
    theirs = start(saving(FedAvg)())
    assert len(kept[CAAFP]) == len(kept[FedAvg]) == ROUNDS
    for one, two in zip(kept[CAAFP], kept[FedAvg], strict=True):
        same(one, two)
    same(ours.arrays, theirs.arrays)


def half(base: type[Any]) -> type[Any]:
    """A server's learning rate of one half."""

    class Half(base):  # type: ignore[misc]
        def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
            object.__setattr__(self, "before", numpy_of(arrays))
            return super().configure_train(server_round, arrays, config, grid)

        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            arrays, metrics = super().aggregate_train(server_round, replies)
            after = numpy_of(arrays)
            moved = {
                name: np.asarray(self.before[name] + 0.5 * (after[name] - self.before[name]))
                if after[name].ndim
                else after[name]
                for name in after
            }
            return record_of(moved), metrics

    return Half


def test_an_override_of_each_evaluation_is_called() -> None:
    calls: list[tuple[str, int]] = []

    class Watching(CAAFP):
        def configure_evaluate(self, server_round: int, *rest: Any) -> Any:
            calls.append(("configure", server_round))
            return super().configure_evaluate(server_round, *rest)

        def aggregate_evaluate(self, server_round: int, replies: Any) -> Any:
            calls.append(("aggregate", server_round))
            return super().aggregate_evaluate(server_round, replies)

    start(as_fedavg(Watching), sparse_mod, rounds=2)
    assert calls == [("configure", 1), ("aggregate", 1), ("configure", 2), ("aggregate", 2)]


def by_hand(base: type[Any]) -> type[Any]:
    """Evaluation messages of one's own, made of the arrays that one is handed."""

    class ByHand(base):  # type: ignore[misc]
        def configure_evaluate(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
            config["server-round"] = server_round
            content = RecordDict({"arrays": arrays, "config": config})
            return [Message(content, node, "evaluate") for node in grid.get_node_ids()]

    return ByHand


def rejecting(base: type[Any]) -> type[Any]:
    """A server that rejects the second round: the next one starts from the model before."""

    class Rejecting(base):  # type: ignore[misc]
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            arrays, metrics = super().aggregate_train(server_round, replies)
            return (None if server_round == 2 else arrays), metrics

    return Rejecting


def schedule(base: type[Any]) -> type[Any]:
    """A rate for every second client, in messages that are made anew."""

    class Schedule(base):  # type: ignore[misc]
        def configure_train(self, *args: Any) -> Any:
            for message in super().configure_train(*args):
                config = ConfigRecord({**message.content["config"], "lr": 0.3 / args[0]})
                content = RecordDict({**message.content, "config": config})
                yield Message(content, message.metadata.dst_node_id, "train")

    return Schedule


def several_times(base: type[Any]) -> type[Any]:
    """Flower hands out a list: it is counted, gone through again, and passed on in part."""

    class SeveralTimes(base):  # type: ignore[misc]
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            assert len(replies) == CLIENTS
            assert replies[0].has_content()
            losses = [reply.content["metrics"]["train_loss"] for reply in replies]
            kept = [reply for reply in replies if reply.content["metrics"]["train_loss"] > 1]
            found = super().aggregate_train(server_round, kept if server_round == 1 else replies)
            assert losses == [reply.content["metrics"]["train_loss"] for reply in replies]
            return found

        def aggregate_evaluate(self, server_round: int, replies: Any) -> Any:
            contents = [reply.content for reply in replies]
            found = super().aggregate_evaluate(server_round, replies)
            own = self.evaluate_metrics_aggr_fn(contents, self.weighted_by_key)
            assert dict(own) == pytest.approx(dict(found))
            return found

    return SeveralTimes


def smooth(base: type[Any]) -> type[Any]:
    """Clients evaluate half of the model; what is trained on is the whole one."""

    class Smooth(base):  # type: ignore[misc]
        def configure_evaluate(self, server_round: int, arrays: Any, *rest: Any) -> Any:
            mean = {
                name: (0.5 * array).astype(array.dtype) for name, array in numpy_of(arrays).items()
            }
            return super().configure_evaluate(server_round, record_of(mean), *rest)

    return Smooth


@pytest.mark.parametrize("change", [half, by_hand, rejecting, schedule, several_times, smooth])
def test_what_an_override_does_is_done_as_around_fedavg(change: Any) -> None:
    ours, theirs = start(as_fedavg(change(CAAFP)), sparse_mod), start(change(FedAvg)())
    same(ours.arrays, theirs.arrays)
    assert ours.evaluate_metrics_clientapp.keys() == theirs.evaluate_metrics_clientapp.keys()
    last = max(theirs.evaluate_metrics_clientapp)
    told, wanted = (dict(one.evaluate_metrics_clientapp[last]) for one in (ours, theirs))
    assert told == pytest.approx(wanted)  # replies come in the order of random node ids


def test_a_summary_of_ones_own_is_told() -> None:
    told: list[str] = []

    class Telling(CAAFP):
        def summary(self) -> None:
            super().summary()
            told.append("mine")

    start(as_fedavg(Telling), sparse_mod, rounds=1)
    assert told == ["mine"]


def test_a_run_may_wait_without_end_and_its_result_is_told_in_short() -> None:
    result = as_fedavg().start(grid_of(App().make(sparse_mod)), record_of(arrays_of()), 1, None)
    assert "0: part-0000, part-0001" in repr(result)
    assert len(repr(result)) < 1000


def forgets_once(message: Message, context: Context, call: ClientAppCallable) -> Message:
    if message.content.config_records.get("config", {}).get("server-round") == 3:
        context.state.clear()
    return call(message, context)


def test_what_an_override_puts_into_messages_is_in_those_that_it_does_not_see() -> None:
    """Those that form clusters, make personal models, or go to a client that has lost its mask."""

    class Adding(CAAFP):
        def configure_train(self, *args: Any) -> Any:
            for message in super().configure_train(*args):
                config = ConfigRecord({**message.content["config"], "epochs": 2})
                extra = ArrayRecord([np.zeros(2)])
                content = RecordDict({**message.content, "config": config, "control": extra})
                yield Message(content, message.metadata.dst_node_id, "train")

        def configure_evaluate(self, *args: Any) -> Any:
            messages = list(super().configure_evaluate(*args))
            for message in messages:
                message.content["config"]["batch"] = 8
            return messages

    app = App()
    result = all_exchanges(app, forgets_once, sparse_mod, kind=Adding)
    assert sum(kind == "train" for kind, _ in app.seen) == 7 * CLIENTS
    for kind, records in app.seen:
        assert ("epochs" in records["config"], "batch" in records["config"]) == (
            kind == "train",
            kind == "evaluate",
        )
        names = ["arrays", "config", *(["control"] if kind == "train" else [])]
        assert list(records) == names
    assert {client.personal_sparsity for client in result.report.clients} == {0.5}


def loop(strategy: Any, *mods: Any) -> ArrayRecord:
    """Flower's rounds, held by the user."""
    grid, arrays = grid_of(App().make(*mods)), record_of(arrays_of())
    config = ConfigRecord({"lr": 0.3})
    for server_round in range(1, ROUNDS + 1):
        replies = grid.send_and_receive(
            strategy.configure_train(server_round, arrays, config, grid)
        )
        arrays, metrics = strategy.aggregate_train(server_round, replies)
        assert metrics is not None
        replies = grid.send_and_receive(
            strategy.configure_evaluate(server_round, arrays, ConfigRecord(), grid)
        )
        assert strategy.aggregate_evaluate(server_round, replies) is not None
    return arrays


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (lambda arrays: numpy_of(arrays), "expected an ArrayRecord of the model, found dict"),
        (
            lambda arrays: record_of(
                numpy_of(arrays) | {"layer.bias": np.full(40, np.nan, np.float32)}
            ),
            "found NaN or infinity",
        ),
    ],
)
def test_what_an_override_returns_has_to_be_a_model(returned: Any, found: str) -> None:
    class Returning(CAAFP):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            arrays, metrics = super().aggregate_train(server_round, replies)
            return returned(arrays), metrics

    with pytest.raises(RunError, match=found):
        start(Returning(), sparse_mod)


def test_a_loop_of_ones_own_is_fedavgs_and_can_be_started_again() -> None:
    ours, theirs = as_fedavg(num_rounds=ROUNDS), loop(FedAvg())
    same(loop(ours, sparse_mod), theirs)
    same(loop(ours, sparse_mod), theirs)
    same(start(ours, sparse_mod).arrays, theirs)


def test_a_loop_of_ones_own_prunes_by_plan() -> None:
    strategy = CAAFP(num_rounds=ROUNDS, clustering=Clustering(1), pruning=Pruning(sparsity=0.5))
    weights = numpy_of(loop(strategy, sparse_mod))["layer.weight"]
    assert (weights == 0).mean() == pytest.approx(0.5)


@pytest.mark.parametrize("strategy", [CAAFP(), FedSNIP(), as_fedavg()])
def test_a_loop_of_ones_own_has_to_say_how_long_it_is(strategy: Any) -> None:
    with pytest.raises(RunError, match=r"num_rounds=\.\.\."):
        loop(strategy, sparse_mod)


@pytest.mark.parametrize(
    ("wrapper", "mod"),
    [
        (DifferentialPrivacyClientSideFixedClipping, fixedclipping_mod),
        (DifferentialPrivacyClientSideAdaptiveClipping, adaptiveclipping_mod),
    ],
)
def test_client_side_dp_works_as_around_fedavg(wrapper: Any, mod: Any) -> None:
    def trains_only(message: Any, context: Any, call: Any) -> Any:
        trains = message.metadata.message_type == "train"
        return mod(message, context, call) if trains else call(message, context)

    noise = {"noise_multiplier": 0.0, "num_sampled_clients": CLIENTS}
    if wrapper is DifferentialPrivacyClientSideFixedClipping:
        noise["clipping_norm"] = 5.0
    else:
        noise |= {"initial_clipping_norm": 5.0, "clipped_count_stddev": 1e-9}
    ours = start(wrapper(as_fedavg(num_rounds=ROUNDS), **noise), sparse_mod, trains_only)
    theirs = start(wrapper(FedAvg(), **noise), trains_only)
    same(ours.arrays, theirs.arrays, atol=2e-6)


@pytest.mark.parametrize(
    "wrapper",
    [
        DifferentialPrivacyServerSideFixedClipping,
        DifferentialPrivacyServerSideAdaptiveClipping,
    ],
)
@pytest.mark.parametrize("rounds", [0, ROUNDS])
def test_server_side_dp_is_refused_with_what_to_use(wrapper: Any, rounds: int) -> None:
    fixed = wrapper is DifferentialPrivacyServerSideFixedClipping
    dp = wrapper(CAAFP(num_rounds=rounds), 0.01, *([5.0, 6] if fixed else [6]))
    with pytest.raises(RunError, match="client-side counterpart"):
        start(dp, sparse_mod)


def test_a_subclass_of_server_side_dp_in_a_loop_of_ones_own_is_refused_too() -> None:
    class Mine(DifferentialPrivacyServerSideFixedClipping):
        pass

    with pytest.raises(RunError, match="Mine clips replies as models"):
        loop(Mine(CAAFP(num_rounds=ROUNDS), 0.01, 5.0, 6), sparse_mod)


@pytest.mark.parametrize("called", ["aggregate_train", "aggregate_evaluate"])
def test_aggregation_without_configuration_says_what_is_missing(called: str) -> None:
    with pytest.raises(RunError, match="configure_train to be called before"):
        getattr(CAAFP(), called)(1, [])


def changing(base: type[Any]) -> type[Any]:
    """A server that works on the arrays it is handed, in place, and leaves out clients."""

    class Changing(base):  # type: ignore[misc]
        def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
            messages = list(super().configure_train(server_round, arrays, config, grid))
            messages.sort(
                key=lambda message: sorted(grid.contexts).index(message.metadata.dst_node_id)
            )
            return messages[: 0 if server_round in (2, 3, 4) else CLIENTS // 2]

        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            arrays, metrics = super().aggregate_train(server_round, replies)
            for name, array in (arrays or {}).items():
                arrays[name] = type(array)((array.numpy() * 0.5).astype(array.dtype))
            return arrays, metrics

    return Changing


def test_arrays_may_be_changed_in_place_and_messages_left_out() -> None:
    initial = {name: array for name, array in arrays_of().items() if name != "norm.steps"}
    results = []
    for strategy, mods in ((as_fedavg(changing(CAAFP)), (sparse_mod,)), (changing(FedAvg)(), ())):
        grid = grid_of(App().make(*mods))
        config = ConfigRecord({"lr": 0.3})
        # The same clients in both runs, though node ids are random.
        nodes = zip(sorted(grid.contexts), list(grid.contexts.values()), strict=True)
        grid.contexts = {node: context for node, context in nodes}
        results.append(
            strategy.start(grid, record_of(initial), num_rounds=6, train_config=config).arrays
        )
    same(*results)
