"""Somebody else's project with `CAAFP()` for `FedAvg()`: accuracy and bytes of both, same seeds.

    python -m benchmarks.plugin [--rounds 20 3] [--seeds 5] [--models cnn softmax]

scikit-learn's digits, dealt out evenly to 10 nodes; an app that knows nothing of us, in this
process, with Flower's wire format between. Everything is left at its default. Bytes are those of
Flower's objects. Needs scikit-learn and torch.
"""

import argparse
import logging
from collections.abc import Callable, Mapping

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, Strategy
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from caafp_app import CAAFP, sparse_mod
from tests.local_grid import LocalGrid

NODES = 10


def cnn() -> nn.Module:
    """Return a network of 38 282 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def softmax() -> nn.Module:
    """Return a softmax regression: 650 parameters."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


MODELS: Mapping[str, tuple[Callable[[], nn.Module], float]] = {
    "cnn": (cnn, 0.3),
    "softmax": (softmax, 0.5),
}
"""Network and learning rate."""


class Digits:
    """The images, dealt out to nodes; a fifth is held out.

    Parameters
    ----------
    seed : int
        Decides who gets what, the first weights and the order of batches.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        found = load_digits()
        order = np.random.default_rng(seed).permutation(len(found.target))
        images = (found.images[order, None] / 16).astype(np.float32)
        self.x, self.y = torch.from_numpy(images), torch.from_numpy(found.target[order])
        self.test = len(order) // 5

    def part(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images and digits of one node."""
        own = slice(self.test + number, None, NODES)
        return self.x[own], self.y[own]

    def accuracy(self, model: nn.Module) -> float:
        """Score a model on what is held out."""
        with torch.no_grad():
            right = model(self.x[: self.test]).argmax(1) == self.y[: self.test]
        return float(right.float().mean())


def make_app(
    digits: Digits, build: Callable[[], nn.Module], rate: float, *mods: object
) -> ClientApp:
    """Return the app, as one writes it for FedAvg."""
    app = ClientApp(mods=list(mods))  # type: ignore[arg-type]

    def received(message: Message, context: Context) -> tuple[nn.Module, int]:
        model = build()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        return model, int(context.node_config["partition-id"])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        model, part = received(message, context)
        x, y = digits.part(part)
        round_ = int(message.content["config"]["server-round"])
        mixed = torch.Generator().manual_seed(1000 * digits.seed + 100 * round_ + part)
        optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.5)
        for batch in torch.split(torch.randperm(len(y), generator=mixed), 16):
            optimiser.zero_grad()
            loss = functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        metrics = MetricRecord({"train_loss": loss.item(), "num-examples": len(y)})
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        model, part = received(message, context)
        x, y = digits.part(part)
        with torch.no_grad():
            right = (model(x).argmax(1) == y).float().mean()
        metrics = MetricRecord({"eval_acc": float(right), "num-examples": len(y)})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def run(strategy: Strategy, name: str, seed: int, rounds: int, *mods: object) -> tuple[float, int]:
    """Return accuracy of the mean model on held-out images, and bytes both ways."""
    build, rate = MODELS[name]
    torch.manual_seed(seed)
    first, digits = build(), Digits(seed)
    nodes = [{"partition-id": k, "num-partitions": NODES} for k in range(NODES)]
    grid = LocalGrid(make_app(digits, build, rate, *mods), nodes)
    result = strategy.start(grid, ArrayRecord(first.state_dict()), num_rounds=rounds)
    first.load_state_dict(result.arrays.to_torch_state_dict())
    return digits.accuracy(first), sum(passage.nbytes for passage in grid.passages)


def main() -> None:
    """Print a line for each model, number of rounds and seed, and their means."""
    parser = argparse.ArgumentParser(description="Compare CAAFP() with Flower's FedAvg().")
    parser.add_argument("--rounds", type=int, nargs="+", default=[20, 3])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    args = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    print("model    rounds  seed  FedAvg %  CAAFP %  difference  bytes / FedAvg's")
    for name in args.models:
        for rounds in args.rounds:
            rows = []
            for seed in range(args.seeds):
                theirs, bytes_theirs = run(FedAvg(), name, seed, rounds)
                ours, bytes_ours = run(CAAFP(seed=seed), name, seed, rounds, sparse_mod)
                rows.append((theirs, ours, bytes_ours / bytes_theirs))
                _tell(name, rounds, str(seed), *rows[-1])
            _tell(name, rounds, "mean", *np.mean(rows, axis=0))


def _tell(name: str, rounds: int, seed: str, theirs: float, ours: float, share: float) -> None:
    print(
        f"{name:8} {rounds:6} {seed:>5} {theirs:9.1%} {ours:8.1%} {100 * (ours - theirs):+11.1f} "
        f"{share:17.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
