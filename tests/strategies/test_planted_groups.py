"""The clusters that a run finds are the groups that the synthetic data has."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from caafp_app.datasets.synthetic import planted_groups
from tests.strategies.support import prepare

DEFAULT_LIKE = {
    "synthetic-users": 12,
    "synthetic-windows": 120,
    "clusters": 0,  # the number is to be found as well
    "local-epochs": 2,
    "clients-per-round": 6,
    "warmup-rounds": 2,
    "cluster-rounds": 1,
    "prune-rounds": 0,
    "sparsity": 0.0,
}


@pytest.mark.parametrize("seed", range(3))
def test_planted_groups_are_found(seed: int) -> None:
    setup = prepare({**DEFAULT_LIKE, "seed": seed, "data-seed": seed})
    setup.strategy.personalise = False
    found = setup.start().seen.labels
    planted = planted_groups(setup.settings.data)
    assert np.unique(planted).size == 3
    assert sorted(found) == [f"user-{k:02d}" for k in range(12)]
    assert adjusted_rand_score(planted, [found[label] for label in sorted(found)]) >= 0.9
