"""Clients without a gyroscope take part in the same federation as those that have one."""

from pathlib import Path

import numpy as np
import pytest

from caafp_app.datasets import source_of
from caafp_app.server_app import initial_arrays
from caafp_app.settings import DataSettings
from tests.strategies.support import run

USERS, LACKING = 6, (1, 4)
SETTINGS = {
    "dataset": "npz",
    "standardise": "client",
    "model": "sensor-fusion",
    "seed": 3,
    "warmup-rounds": 4,
    "cluster-rounds": 2,
    "prune-rounds": 6,
    "prune-every": 2,
    "clients-per-round": USERS,
    "clusters": 1,
    "local-epochs": 3,
    "learning-rate": 0.003,
}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Six users of one group; two of them have no gyroscope, that is zeros in its channels."""
    made = source_of("synthetic").windows(
        DataSettings(synthetic_users=USERS, synthetic_groups=1, synthetic_windows=60)
    )
    x = made.x.copy()
    x[np.ix_(np.isin(made.user, LACKING), range(x.shape[1]), [3, 4, 5])] = 0
    path = tmp_path / "windows.npz"
    np.savez(path, X=x, y=made.y, user=made.user, label_names=np.array(made.class_names))
    return path


def test_clients_without_a_gyroscope_train_in_the_same_federation(recordings: Path) -> None:
    ended = run({**SETTINGS, "data-dir": str(recordings)}, count=USERS)
    seen, result, settings = ended.seen, ended.result, ended.settings
    assert all(record.answered == record.asked == USERS for record in seen.rounds)
    (cluster,) = result.clusters.values()
    assert len(cluster.members) == USERS
    assert cluster.density == pytest.approx(0.3, abs=0.01)
    accuracy = [client.cluster_accuracy for client in seen.report.clients]
    # Chance, and what always naming the most frequent activity comes to, are below 0.4.
    assert min(accuracy[user] for user in LACKING) > 0.6
    assert np.mean(accuracy) > 0.7
    # The others have trained the gyroscope's branch inside its mask.
    first = initial_arrays(settings)["branches.1.0.weight"]
    last, mask = (part["branches.1.0.weight"] for part in (cluster.arrays, cluster.mask))
    assert (last.numpy() != first)[mask].all()
