"""Small apps written for FedAvg, and one run of them: by Flower's class, or by ours."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from flwr.serverapp.strategy import FedAvg, Result
from numpy.typing import NDArray

from caafp_app import CAAFP, sparse_mod
from caafp_app.strategies import Clustering, MethodStrategy, Pruning
from tests.local_grid import LocalGrid

Arrays = dict[str, NDArray[Any]]
CLIENTS, ROUNDS = 6, 4
CONFIG = {"lr": 0.3, "clipping_norm": 5.0}
NUM_ROUNDS = 5
"""Of `all_exchanges`."""


def arrays_of(dtype: str = "float32", size: int = 40) -> Arrays:
    """A weight matrix that is worth pruning, a bias, and what batch norm adds to them."""
    rng = np.random.default_rng(3)
    return {
        "layer.weight": rng.normal(size=(size, 40)).astype(dtype),
        "layer.bias": rng.normal(size=40).astype(dtype),
        "norm.steps": np.array(0, np.int64),
    }


def record_of(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """As ``ArrayRecord(model.state_dict())`` makes it."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def numpy_of(record: ArrayRecord) -> Arrays:
    return {name: array.numpy() for name, array in record.items()}


def pull(array: NDArray[Any], part: int, rate: float) -> NDArray[Any]:
    """Train: go part of the way to a point of this client's own; counters count.

    Flower's FedAvg makes a counter a floating number, which torch casts back; so does this.
    """
    if not array.ndim:
        return np.asarray(round(float(array)) + 1)
    goal = np.random.default_rng([part, array.size]).normal(size=array.shape)
    return np.asarray(array + np.asarray(rate * (goal - array)).astype(array.dtype))


@dataclass
class App:
    """What an app is like, and what it and its mods saw.

    `examples` are of each client; `metrics` gives what a client reports besides, by its number;
    `keys` name the ArrayRecord and the ConfigRecord.
    """

    examples: Sequence[float] = (10, 20, 30, 40, 50, 1000)
    metrics: Callable[[int], Mapping[str, Any]] = lambda part: {"train_loss": 1.0 + part}
    keys: tuple[str, str] = ("arrays", "config")
    weight: str = "num-examples"
    seen: list[tuple[str, RecordDict]] = field(default_factory=list)

    def make(self, *mods: Mod, evaluates: bool = True) -> ClientApp:
        """Build the ClientApp."""
        app = ClientApp(mods=list(mods))

        def metrics(part: int) -> MetricRecord:
            return MetricRecord({self.weight: self.examples[part], **self.metrics(part)})

        @app.train()
        def train(message: Message, context: Context) -> Message:
            self.seen.append(("train", message.content))
            part = int(context.node_config["partition-id"])
            rate = next(iter(message.content.config_records.values())).get("lr", 0.5)
            given = numpy_of(message.content[self.keys[0]])
            model = record_of({name: pull(array, part, rate) for name, array in given.items()})
            content = RecordDict({self.keys[0]: model, "metrics": metrics(part)})
            return Message(content, reply_to=message)

        if not evaluates:
            return app

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            self.seen.append(("evaluate", message.content))
            part = int(context.node_config["partition-id"])
            return Message(RecordDict({"metrics": metrics(part)}), reply_to=message)

        return app


def grid_of(app: ClientApp, clients: int = CLIENTS) -> LocalGrid:
    return LocalGrid(app, [{"partition-id": k, "num-partitions": clients} for k in range(clients)])


def as_fedavg(cls: type[CAAFP] = CAAFP, **kwargs: Any) -> CAAFP:
    """CA-AFP with everything of its own switched off."""
    return cls(clustering=Clustering(clusters=1), pruning=Pruning(sparsity=0.0), **kwargs)


def all_exchanges(app: App, *mods: Mod, kind: type[CAAFP] = CAAFP) -> Any:
    """A run with all exchanges there are: two clusters, pruning, personal models."""
    strategy = kind(
        warmup_rounds=1,
        cluster_rounds=1,
        prune_rounds=3,
        clustering=Clustering(clusters=2),
        pruning=Pruning(sparsity=0.5, every=1),
    )
    return strategy.start(
        grid_of(app.make(*mods)),
        record_of(arrays_of()),
        num_rounds=NUM_ROUNDS,
        train_config=ConfigRecord(CONFIG),
    )


def both(
    app: App,
    initial: Arrays | None = None,
    rounds: int = ROUNDS,
    strategy: Callable[..., MethodStrategy] = as_fedavg,
    **kwargs: Any,
) -> tuple[Result, Result]:
    """Run the same app by our strategy and by Flower's own."""
    given = arrays_of() if initial is None else initial
    common = {"num_rounds": rounds, "train_config": ConfigRecord({"lr": 0.3})}
    ours = strategy(**kwargs).start(grid_of(app.make(sparse_mod)), record_of(given), **common)
    theirs = FedAvg(**kwargs).start(grid_of(app.make()), record_of(given), **common)
    return ours, theirs
