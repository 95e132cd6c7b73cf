"""With sparsity 0 and one cluster, models and metrics are those of Flower's own FedAvg."""

import math
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, Result

from caafp_app import CAAFP, sparse_mod
from caafp_app.strategies import fedavg
from tests.foreign.apps import App, arrays_of, as_fedavg, both, grid_of, numpy_of, record_of


def assert_same(ours: Result, theirs: Result, rtol: float = 1e-6) -> None:
    one, two = numpy_of(ours.arrays), numpy_of(theirs.arrays)
    assert list(one) == list(two)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=rtol, atol=rtol)
    for kind in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
        assert list(getattr(ours, kind)) == list(getattr(theirs, kind))
        for number, metrics in getattr(theirs, kind).items():
            found = getattr(ours, kind)[number]
            assert found.keys() == metrics.keys()
            for name in metrics:
                np.testing.assert_allclose(found[name], metrics[name], rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "rtol"), [("float16", 4e-3), ("float32", 1e-6), ("float64", 1e-6), (">f4", 1e-6)]
)
def test_any_dtype(dtype: str, rtol: float) -> None:
    ours, theirs = both(App(), arrays_of(dtype))
    assert_same(ours, theirs, rtol)
    assert numpy_of(ours.arrays)["layer.weight"].dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize(
    "examples",
    [
        (10, 10, 10, 10, 10, 1000),
        (1, 10**6, 3, 7, 5, 2),
        (0, 5, 0, 7, 9, 1),
        (0.25, 0.5, 1e-3, 2.0, 0.1, 3.3),
    ],
)
@pytest.mark.parametrize("strategy", [as_fedavg, fedavg.FedAvg])
def test_any_example_counts(examples: tuple[float, ...], strategy: Any) -> None:
    assert_same(*both(App(examples=examples), strategy=strategy))


@pytest.mark.parametrize(
    "report",
    [
        lambda part: {"ppl": math.inf if part == 2 else 3.0},
        lambda part: {"loss": math.nan},
        lambda part: {"f1": [0.1 * part, 0.5], "count": part},
        lambda part: {},
    ],
)
def test_any_metrics(report: Any) -> None:
    assert_same(*both(App(metrics=report)))


@pytest.mark.parametrize(
    "keys", [("arrays", "config"), ("model", "cfg"), ("my weights", "caafp.x")]
)
def test_any_names_of_records(keys: tuple[str, str]) -> None:
    app = App(keys=keys)
    assert_same(*both(app, arrayrecord_key=keys[0], configrecord_key=keys[1]))
    assert {tuple(records) for _, records in app.seen} == {keys}


def test_complex_numbers_are_said_not_to_be_averaged(caplog: pytest.LogCaptureFixture) -> None:
    model = {**arrays_of(), "spectrum": np.ones((2, 3), np.complex64)}
    as_fedavg().start(grid_of(App().make(sparse_mod)), record_of(model), num_rounds=1)
    (told,) = [line for line in caplog.messages if line.startswith("complex numbers are not")]
    assert "only travel along: spectrum. " in told


def test_no_update_is_too_long_for_a_model_of_small_weights() -> None:
    small = {name: 1e-4 * array for name, array in arrays_of().items() if array.ndim}
    assert_same(*both(App(), small))


def test_a_rate_that_rises_in_mid_run_ends_nothing() -> None:
    def rising(base: type[Any]) -> type[Any]:
        class Rising(base):  # type: ignore[misc]
            def configure_train(self, number: int, arrays: Any, config: Any, *rest: Any) -> Any:
                config["lr"] = 0.01 if number == 1 else 0.9
                return super().configure_train(number, arrays, config, *rest)

        return Rising

    app = App()
    ours = as_fedavg(rising(CAAFP)).start(grid_of(app.make(sparse_mod)), record_of(arrays_of()))
    theirs = rising(FedAvg)().start(grid_of(app.make()), record_of(arrays_of()))
    assert_same(ours, theirs)


def test_callbacks_get_what_fedavgs_get() -> None:
    calls: list[list[dict[str, Any]]] = []

    def note(records: list[RecordDict], weighted_by: str) -> MetricRecord:
        found = [dict(next(iter(record.metric_records.values()))) for record in records]
        calls.append(sorted(found, key=lambda metrics: str(metrics)))
        return MetricRecord({"n": len(records)})

    both(
        App(examples=(0, 1, 2, 3, 4, 5)),
        rounds=2,
        train_metrics_aggr_fn=note,
        evaluate_metrics_aggr_fn=note,
    )
    assert len(calls) == 8
    assert calls[:4] == calls[4:]


def test_one_bad_round_and_one_bad_client_are_passed_over() -> None:
    app = App()
    rounds: list[int] = []

    def failing(message: Any, context: Any, call_next: Any) -> Any:
        round_ = message.content["config"]["server-round"]
        if message.metadata.message_type == "train":
            rounds.append(round_)
            if round_ == 2 or context.node_config["partition-id"] == 0:
                raise ValueError("out of memory")
        return call_next(message, context)

    common = {"num_rounds": 3, "train_config": ConfigRecord({"lr": 0.3})}
    ours = as_fedavg(personalise=False).start(
        grid_of(app.make(sparse_mod, failing)), record_of(arrays_of()), **common
    )
    theirs = FedAvg().start(grid_of(app.make(failing)), record_of(arrays_of()), **common)
    assert_same(ours, theirs)


def test_an_app_without_an_evaluate_function_trains_on() -> None:
    app = App()
    ours = as_fedavg().start(grid_of(app.make(sparse_mod, evaluates=False)), record_of(arrays_of()))
    theirs = FedAvg(fraction_evaluate=0.0).start(
        grid_of(app.make(evaluates=False)), record_of(arrays_of())
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize(
    ("key", "weights"),
    [
        ("tokens", [10**k for k in (8, 9, 10, 11, 12, 7)]),
        ("bytes", [3e10, 1e10, 2e10, 5e9, 1e10, 1e10]),
        ("share", [1e-6, 2e-6, 3e-6, 5e-7, 1e-6, 1e-6]),
    ],
)
def test_weights_of_any_size_make_fedavgs_mean(key: str, weights: list[float]) -> None:
    assert_same(*both(App(examples=weights, weight=key), weighted_by_key=key))


@pytest.mark.parametrize("size", [1e3, 1e9, 1e20])
def test_a_model_of_large_numbers_makes_fedavgs_mean(size: float) -> None:
    initial = {"w": np.full((40, 40), size, np.float32)}
    ours, theirs = both(App(), initial)
    one, two = (numpy_of(result.arrays)["w"] / size for result in (ours, theirs))
    np.testing.assert_allclose(one, two, rtol=1e-5)


@pytest.mark.parametrize("odd", [-np.inf, np.inf, np.nan])
def test_an_array_of_infinite_numbers_is_carried(odd: float) -> None:
    """As the mask of attention that a module keeps among its buffers."""
    initial = {**arrays_of(), "mask": np.where(np.tri(40) > 0, 0, odd).astype(np.float32)}

    def keeps(message: Any, context: Any, call_next: Any) -> Any:
        before = numpy_of(message.content["arrays"])
        reply = call_next(message, context)
        if message.metadata.message_type == "train":
            arrays = {**numpy_of(reply.content["arrays"]), "mask": before["mask"]}
            reply.content["arrays"] = record_of(arrays)
        return reply

    results = [
        strategy.start(
            grid_of(App().make(*mods, keeps)),
            record_of(initial),
            num_rounds=2,
            train_config=ConfigRecord({"lr": 0.3}),
        )
        for strategy, mods in ((as_fedavg(), (sparse_mod,)), (FedAvg(), ()))
    ]
    assert_same(*results)


def in_other_numbers(message: Any, context: Any, call_next: Any) -> Any:
    """As JAX returns counters in 32 bits, and scikit-learn a scalar as an array of one."""
    reply = call_next(message, context)
    if message.metadata.message_type == "train":
        arrays = numpy_of(reply.content["arrays"])
        arrays["norm.steps"] = arrays["norm.steps"].astype(np.int32).reshape(1)
        arrays["layer.bias"] = arrays["layer.bias"].astype(np.float64)[None]
        reply.content["arrays"] = record_of(arrays)
    return reply


def as_a_list(message: Any, context: Any, call_next: Any) -> Any:
    """As an app returns its model that works on a list of numpy arrays."""
    reply = call_next(message, context)
    if message.metadata.message_type == "train":
        reply.content["arrays"] = ArrayRecord(reply.content["arrays"].to_numpy_ndarrays())
    return reply


@pytest.mark.parametrize("change", [in_other_numbers, as_a_list])
def test_other_types_axes_of_one_and_plain_lists_are_taken_as_the_initial_ones(change: Any) -> None:
    app, config = App(), {"train_config": ConfigRecord({"lr": 0.3}), "num_rounds": 3}
    plain, other = (
        as_fedavg().start(grid_of(app.make(*mods)), record_of(arrays_of()), **config)
        for mods in ((sparse_mod,), (sparse_mod, change))
    )
    assert_same(plain, other)
