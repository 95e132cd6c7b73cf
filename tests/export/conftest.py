"""Small runs with run directories: single weights pruned, whole filters, and a smaller network."""

from pathlib import Path

import pytest

from caafp_app.protocol.messages import to_record
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.observer import DirectoryObserver
from caafp_app.server_app import initial_arrays
from tests.strategies.support import prepare

SHORT = {"warmup-rounds": 1, "cluster-rounds": 1, "local-epochs": 2}


def finished(home: Path, name: str, **changes: object) -> Path:
    """Run to the end and return the run directory."""
    small = {"clusters": 1, "synthetic-users": 3, "clients-per-round": 3, "prune-rounds": 4}
    small |= {"synthetic-windows": 60, "local-epochs": 5, "learning-rate": 0.003}
    setup = prepare({**small, **changes})
    strategy = setup.settings.run.strategy
    directory = RunDirectory.create(home, name, strategy=strategy, dataset="synthetic", seed=5)
    setup.strategy.observer = DirectoryObserver(directory, setup.settings.to_dict())
    rounds = setup.settings.rounds.total
    setup.strategy.start(setup.grid, to_record(initial_arrays(setup.settings)), num_rounds=rounds)
    return directory.path


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run directories by granularity, and one of efficientfl."""
    home = tmp_path_factory.mktemp("home")
    return {
        "weight": finished(home, "weight"),
        "filter": finished(home, "filter", granularity="filter"),
        "efficientfl": finished(home, "efficientfl", strategy="efficientfl", **SHORT),
    }
