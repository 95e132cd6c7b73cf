"""Somebody's torch project, with every kind of layer, trained inside its mask through the mod."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch.nn import functional

from caafp_app import CAAFP, current_mask, masked, sparse_mod
from caafp_app.protocol.prunable import PrunableRule
from caafp_app.runs.observer import Observer
from caafp_app.strategies import Clustering, Pruning
from caafp_app.strategies.report import ClusteredResult
from tests.local_grid import LocalGrid
from tests.strategies.support import nodes
from tests.test_masking import Everything, build

CLIENTS, ROUNDS, BATCHES = 3, 6, 4


@dataclass
class Trained:
    """What the clients saw."""

    densities: list[float] = field(default_factory=list)
    outside: list[int] = field(default_factory=list)


def torch_app(seen: Trained) -> ClientApp:
    app = ClientApp(mods=[sparse_mod])

    def received(message: Message) -> Everything:
        model = build()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        return model

    def words(context: Context) -> torch.Tensor:
        rng = np.random.default_rng(int(context.node_config["partition-id"]))
        return torch.from_numpy(rng.integers(0, 11, (BATCHES, 8, 5)))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        model, mask = received(message), current_mask(context)
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
        with masked(model, mask, optimizer):
            for batch in words(context):
                optimizer.zero_grad()
                functional.cross_entropy(model(batch), batch[:, 0]).backward()
                optimizer.step()
        state = model.state_dict()
        seen.outside += (
            [int(state[k][torch.from_numpy(~m)].count_nonzero()) for k, m in mask.items()]
            if mask
            else []
        )
        seen.densities.append(np.mean([m.mean() for m in mask.values()]) if mask else 1.0)
        metrics = MetricRecord({"num-examples": 32, "losses": [0.5, 0.25]})
        content = RecordDict({"arrays": ArrayRecord(state), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    @torch.no_grad()
    def evaluate(message: Message, context: Context) -> Message:
        model = received(message).eval()
        loss = float(functional.cross_entropy(model(words(context)[0]), words(context)[0][:, 0]))
        metrics = MetricRecord({"num-examples": 8, "loss": loss})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def run(prunable: PrunableRule = None, **kwargs: Any) -> tuple[ClusteredResult, Trained]:
    seen = Trained()
    strategy = CAAFP(
        clustering=Clustering(1),
        pruning=Pruning(sparsity=0.7, every=2, schedule="one-shot"),
        prunable=prunable,
        spare_below=0,
        warmup_rounds=ROUNDS // 3,
        observer=Observer(),
        **kwargs,
    )
    grid = LocalGrid(torch_app(seen), nodes(CLIENTS))
    return strategy.start(grid, ArrayRecord(build().state_dict()), num_rounds=ROUNDS), seen


def test_every_kind_of_layer_trains_inside_its_mask() -> None:
    result, seen = run()
    (cluster,) = result.clusters.values()
    state = cluster.arrays.to_torch_state_dict()
    fresh = build().state_dict()
    assert list(state) == list(fresh)
    assert {k: (v.dtype, v.shape) for k, v in state.items()} == {
        k: (v.dtype, v.shape) for k, v in fresh.items()
    }
    assert set(cluster.mask) == {"embedding.weight", "conv.weight", "head.weight"}
    for name, mask in cluster.mask.items():
        assert mask.sum() == round(0.3 * mask.size)
        assert not state[name][torch.from_numpy(~mask)].any()
    # The tied pair stays one; the counter of batches counts on, unaveraged; scale and norm learn.
    assert np.array_equal(cluster.mask["embedding.weight"], cluster.mask["head.weight"])
    assert torch.equal(state["embedding.weight"], state["head.weight"])
    assert int(state["norm.num_batches_tracked"]) == ROUNDS * BATCHES
    for name in ("scale", "norm.weight", "norm.running_mean", "conv.bias"):
        assert not torch.equal(state[name], fresh[name])
    assert 0.29 < min(seen.densities) < 0.31
    assert seen.outside
    assert not any(seen.outside)
    build().load_state_dict(state)
