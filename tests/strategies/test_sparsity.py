"""``sparsity="auto"``: each cluster ends as sparse as its clients' own figure allows."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from caafp_app import CAAFP
from caafp_app.strategies import Clustering, Pruning
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.strategies.numpy_app import CLASSES, FEATURES, GROUPS, TEST
from tests.strategies.support import Recorder, nodes


def unequal(seed: int, part: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return one client's data: what the first group is asked depends on two features of twelve."""
    truth = np.random.default_rng([seed, part % GROUPS]).normal(size=(FEATURES, CLASSES))
    if part % GROUPS == 0:
        truth[2:] = 0
    rng = np.random.default_rng([seed, 1, part])
    x = rng.normal(size=(200 + TEST, FEATURES)).astype(np.float32)
    return x, (x @ truth).argmax(1)


def tuned(seed: int, **changes: Any) -> tuple[Recorder, Any]:
    seen = Recorder()
    strategy = CAAFP(
        warmup_rounds=4,
        cluster_rounds=4,
        prune_rounds=22,
        seed=seed,
        spare_below=0,
        personalise=False,
        clustering=Clustering(2),
        pruning=Pruning(**{"sparsity": "auto", "every": 3, **changes}),
        observer=seen,
    )
    grid = LocalGrid(numpy_app.make_app(data=lambda part: unequal(seed, part)), nodes(8))
    return seen, strategy.start(grid, numpy_app.initial(), num_rounds=30)


@pytest.mark.parametrize("seed", range(5))
def test_a_cluster_with_an_easier_task_ends_sparser(seed: int) -> None:
    seen, result = tuned(seed)
    easy = seen.labels["part-0000"]
    hard = seen.labels["part-0001"]
    path = [(r.round, r.phase, r.density, r.watched) for r in seen.rounds if r.phase == "evaluate"]
    for p in path:
        print(
            p[0],
            {k: round(v, 3) for k, v in p[2].items()},
            {k: round(v, 3) for k, v in p[3].items()},
        )
    assert result.clusters[easy].history[-1].density < result.clusters[hard].history[-1].density
