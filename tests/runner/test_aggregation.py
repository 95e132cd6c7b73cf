"""The aggregations of the registry, over the updates of one query."""

from typing import Any

import numpy as np
import pytest

from caafp_app.pruning import robust
from caafp_app.registry import AGGREGATIONS
from caafp_app.runner.aggregation import Aggregation
from tests.runner.test_runner import CLIENTS, EVEN, MODEL, World, trained

WEIGHTS = [40.0, 43.0, 46.0, 49.0, 52.0]


def test_the_exact_mean_alone_holds_no_replies() -> None:
    free = Aggregation()
    assert [name for name in AGGREGATIONS.builtin if AGGREGATIONS[name] == free] == ["mean"]


@pytest.mark.parametrize("name", ["multi-krum", "geometric-median"])
@pytest.mark.parametrize("model", [MODEL, EVEN], ids=["dense", "sparse"])
def test_a_rule_by_geometry_weighs_every_sum_by_its_shares(name: str, model: Any) -> None:
    wants = frozenset({"squares", "signs"})
    world = World(aggregation=AGGREGATIONS[name])
    (summed,) = world.train(model, wants=wants, gradients=(4, 4) if model is EVEN else ()).summed
    parts = [trained(k, model) for k in range(CLIENTS)]
    active = [moved[model.mask.bits] for moved, *_ in parts]
    together = [np.concatenate([a, rest]) for a, (_, rest, _) in zip(active, parts, strict=True)]
    rule = {"multi-krum": robust.multi_krum, "geometric-median": robust.geometric_median}[name]
    shares = rule(together, WEIGHTS) * sum(WEIGHTS)
    found = summed.mean()
    chosen = shares > 0
    assert summed.replies == chosen.sum() == (3 if name == "multi-krum" else CLIENTS)
    stack = np.stack(active).astype(np.float64)
    np.testing.assert_allclose(found.values, shares @ stack / shares.sum(), atol=1e-6)
    signs = summed.sums["signs"].total.read(slice(0, model.mask.count))
    np.testing.assert_allclose(signs, shares @ np.sign(stack), atol=1e-4)
    squares = summed.sums["squares"].total.read(slice(0, model.mask.count))
    np.testing.assert_allclose(squares, shares @ stack**2, atol=1e-4)
    assert (summed.gradient is not None) == (model is EVEN)
