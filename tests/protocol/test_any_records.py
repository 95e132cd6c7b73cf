"""Property: at density 1 a whole run passes any ArrayRecord through server and mod unchanged."""

from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app import CAAFP, sparse_mod
from caafp_app.protocol.arrays import to_record
from caafp_app.runs.observer import Observer
from caafp_app.strategies import Clustering, Pruning
from tests.local_grid import LocalGrid
from tests.protocol.support import Arrays, contents, equal, identity, models, same, training
from tests.strategies.support import nodes

CLIENTS, ROUNDS = 2, 3


def learns_nothing(seen: list[Arrays]) -> ClientApp:
    """Somebody's ClientApp that returns what it got, and notes it."""
    app = ClientApp(mods=[sparse_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        seen.append(contents(message.content.array_records["arrays"]))
        return training(identity)(message, context)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        seen.append(contents(message.content.array_records["arrays"]))
        metrics = MetricRecord({"num-examples": 3, "accuracy": 0.5})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def strategy(**kwargs: Any) -> CAAFP:
    rules = {"clustering": Clustering(1), "pruning": Pruning(sparsity=0.0, every=1)}
    return CAAFP(**{**rules, "observer": Observer(), "spare_below": 0, **kwargs})


@settings(max_examples=25, deadline=None)
@given(model=models)
def test_a_run_at_density_1_leaves_every_array_as_it_was(model: Arrays) -> None:
    seen: list[Arrays] = []
    evaluated: list[Arrays] = []
    grid = LocalGrid(learns_nothing(seen), nodes(CLIENTS))

    def evaluate_fn(server_round: int, arrays: ArrayRecord) -> None:
        evaluated.append(contents(arrays))

    result = strategy(personalise=True).start(
        grid, to_record(model), num_rounds=ROUNDS, evaluate_fn=evaluate_fn
    )
    # Rounds of training and evaluation, and the three of the personalise phase.
    assert len(seen) == CLIENTS * (2 * ROUNDS + 3)
    # The very bits at first; then -0.0 may have become 0.0, by the addition of an update of 0.
    assert same(seen[0], model)
    assert all(list(arrays) == list(model) and equal(arrays, model) for arrays in seen)
    assert len(evaluated) == ROUNDS + 1
    assert all(equal(arrays, model) for arrays in evaluated)
    (cluster,) = result.clusters.values()
    assert cluster.density == 1.0
    assert equal(contents(cluster.arrays), model)
    assert equal(contents(result.arrays), model)


@settings(max_examples=15, deadline=None)
@given(model=models, sparsity=st.sampled_from([0.5, 0.9, 0.99]))
def test_pruning_any_model_leaves_each_layer_something_and_all_else_alone(
    model: Arrays, sparsity: float
) -> None:
    rules = Pruning(sparsity=sparsity, every=1, regrow=0.2)
    grid = LocalGrid(learns_nothing([]), nodes(CLIENTS))
    result = strategy(pruning=rules).start(grid, to_record(model), num_rounds=ROUNDS + 2)
    (cluster,) = result.clusters.values()
    arrays = contents(cluster.arrays)
    assert list(arrays) == list(model)
    for name, array in model.items():
        mask = cluster.mask.get(name)
        if mask is None:
            mask = np.ones(array.shape, np.bool_)
            assert array.ndim < 2 or not array.size or array.dtype.kind != "f"
        else:
            assert mask.sum() == max(1, int(np.floor(mask.size * (1 - sparsity) + 0.5)))
        assert arrays[name].dtype == array.dtype
        # What was pruned and grew back starts from zero.
        kept = mask & (arrays[name] != 0)
        assert np.array_equal(arrays[name][kept], array[kept])
        assert not arrays[name][~mask].any()
