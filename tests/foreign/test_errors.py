"""What goes wrong in somebody else's app is told with its cause, alike reasons once."""

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from caafp_app import CAAFP, sparse_mod
from caafp_app.errors import RunError, SettingsError
from caafp_app.strategies import Clustering
from tests.foreign.apps import CLIENTS, App, arrays_of, grid_of, numpy_of, record_of


def app_that_returns(change: Any) -> ClientApp:
    """An app whose model is not what it has to be."""
    app = ClientApp(mods=[sparse_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        part = int(context.node_config["partition-id"])
        arrays = change(numpy_of(message.content["arrays"]), part)
        content = RecordDict({"arrays": record_of(arrays)})
        content["metrics"] = MetricRecord({"num-examples": 10})
        return Message(content, reply_to=message)

    return app


def renamed(arrays: Any, part: int) -> Any:
    return {"module." + name: array for name, array in arrays.items()}


def reshaped(arrays: Any, part: int) -> Any:
    return {**arrays, "layer.weight": np.zeros((41, 40), np.float32)}


def diverged(arrays: Any, part: int) -> Any:
    return {**arrays, "layer.bias": np.full(40, np.nan, np.float32)}


def a_tree(arrays: Any, part: int) -> Any:
    return {"0": np.frombuffer(b"{tree}" * (part + 1), np.uint8)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (renamed, "module.layer.weight"),
        (reshaped, r"'layer.weight': expected shape \(40, 40\) .* found \(41, 40\)"),
        (diverged, "training diverged: the trained model holds NaN or infinity"),
        (a_tree, "what grows, such as trees, has no mean"),
    ],
)
def test_a_model_that_is_none_of_the_run_ends_it_with_the_cause_told_once(
    change: Any, told: str
) -> None:
    initial = {"0": np.zeros(0, np.uint8)} if change is a_tree else arrays_of()
    with pytest.raises(RunError, match=told) as ended:
        CAAFP(fraction_evaluate=0.0).start(
            grid_of(app_that_returns(change)), record_of(initial), num_rounds=3
        )
    if change is not a_tree:
        assert str(ended.value).count("client-failed") == 1
        assert f"({CLIENTS} clients)" in str(ended.value)


def returns_nothing(message: Message, context: Context) -> Any:
    return None


def of_the_older_interface() -> ClientApp:
    class Client(NumPyClient):
        def fit(self, parameters: Any, config: Any) -> Any:
            return parameters, 1, {}

    return ClientApp(lambda context: Client().to_client(), mods=[sparse_mod])


def app_of(function: Any, *mods: Any, **actions: str) -> ClientApp:
    app = ClientApp(mods=[*mods, sparse_mod])
    app.train(**actions)(function)
    return app


def reads_the_loss(message: Message, context: Context, call: ClientAppCallable) -> Message:
    reply = call(message, context)
    assert reply.content["metrics"]["train_loss"]
    return reply


def in_fractions(arrays: Any, part: int) -> Any:
    return {**arrays, "counts": np.full(3, part + 0.5)}


@pytest.mark.parametrize(
    ("app", "told"),
    [
        (app_of(returns_nothing), "expected a Message of the ClientApp, found None"),
        (of_the_older_interface(), r"write the app with @app.train\(\)"),
        (app_of(App().make(), action="mine"), r"the app needs one, @app.train\(\)"),
        (app_of(App().make(), reads_the_loss), "metrics of every reply, come after it"),
        (app_that_returns(in_fractions), "has to be of floating numbers in the initial arrays"),
    ],
    ids=["None", "client_fn", "action", "metrics", "fractions"],
)
def test_an_app_that_cannot_work_is_told_what_to_do(app: ClientApp, told: str) -> None:
    initial = {**arrays_of(), "counts": np.zeros(3, np.int64)}
    with pytest.raises(RunError, match=told):
        CAAFP(fraction_evaluate=0.0).start(grid_of(app), record_of(initial), num_rounds=3)


@pytest.mark.parametrize("route", ["train", "evaluate"])
def test_the_mod_on_one_function_alone_is_told(
    route: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain = App().make()
    app = ClientApp()

    @app.train(mods=[sparse_mod] if route == "train" else [])
    def train(message: Message, context: Context) -> Message:
        return plain(message, context)

    @app.evaluate(mods=[sparse_mod] if route == "evaluate" else [])
    def evaluate(message: Message, context: Context) -> Message:
        return plain(message, context)

    def start() -> None:
        CAAFP().start(
            grid_of(app),
            record_of(arrays_of()),
            num_rounds=2,
            evaluate_config=ConfigRecord({"k": 1}),
        )

    if route == "train":  # training goes on, as with FedAvg; evaluation says why it cannot
        start()
        assert "ClientApp(mods=[sparse_mod])" in caplog.text
    else:
        with pytest.raises(RunError, match=r"ClientApp\(mods=\[sparse_mod\]\)"):
            start()


def test_initial_arrays_may_be_a_plain_list() -> None:
    """As ``ArrayRecord(model.get_weights())`` of Keras, or of scikit-learn's coefficients."""
    initial = ArrayRecord([np.zeros((30, 40), np.float32), np.zeros(40, np.float32)])
    result = CAAFP().start(grid_of(App().make(sparse_mod)), initial, num_rounds=3)
    assert list(result.arrays) == ["0", "1"]


@pytest.mark.parametrize(
    ("rounds", "keys", "told"),
    [
        (0, ("arrays", "config"), "num_rounds: expected a whole number of at least 1, found 0"),
        (1, ("x", "x"), "two names that differ"),
        (1, ("caafp", "config"), "none of caafp"),
        (1, ("arrays", "caafp.arrays"), "none of caafp"),
    ],
)
def test_what_cannot_be_is_said_before_anybody_works(
    rounds: int, keys: tuple[str, str], told: str
) -> None:
    strategy = CAAFP(arrayrecord_key=keys[0], configrecord_key=keys[1])
    grid = grid_of(App().make(sparse_mod))
    with pytest.raises(SettingsError, match=told):
        strategy.start(grid, record_of(arrays_of()), num_rounds=rounds)
    assert not grid.requests


def test_an_aggregation_of_ones_own_is_told_where_the_models_are() -> None:
    class Own(CAAFP):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            return next(iter(replies)).content["arrays"], None

    with pytest.raises(RunError, match=r"let super\(\).aggregate_train aggregate them"):
        Own().start(grid_of(App().make(sparse_mod)), record_of(arrays_of()), num_rounds=2)


@pytest.mark.parametrize(("last", "ends"), [(10, True), (11, False)])
def test_a_run_fails_if_its_last_rounds_and_all_personal_models_fail(last: int, ends: bool) -> None:
    def breaks(message: Message, context: Context, call: ClientAppCallable) -> Message:
        config = message.content.config_records.get("config", {})
        if message.metadata.message_type == "train" and int(str(config["server-round"])) > last:
            raise ValueError("a full disk")
        return call(message, context)

    strategy = CAAFP(clustering=Clustering(1), personalise=True)
    grid = grid_of(App().make(sparse_mod, breaks, evaluates=False))
    if ends:
        with pytest.raises(RunError, match="in the last 2 rounds, nor a personal model"):
            strategy.start(grid, record_of(arrays_of()), num_rounds=12)
    else:
        assert strategy.start(grid, record_of(arrays_of()), num_rounds=12).clusters
