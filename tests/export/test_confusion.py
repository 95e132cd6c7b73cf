"""The confusion matrix of a run is what its clients have seen."""

from pathlib import Path

import numpy as np
import pytest

from caafp_app.api import load_run
from caafp_app.errors import RunError
from tests.left_run import leave_run


def test_its_diagonal_is_the_accuracy_that_clients_reported(runs: dict[str, Path]) -> None:
    for path in (runs["weight"], runs["filter"]):
        run = load_run(path)
        matrix, clients = run.confusion(), run.clients
        assert list(matrix.index) == list(matrix.columns)
        right = (clients["cluster_accuracy"] * clients["test_examples"]).sum()
        assert matrix.to_numpy().sum() == clients["test_examples"].sum()
        assert np.trace(matrix.to_numpy()) == pytest.approx(right, abs=1e-6)


def test_not_of_data_that_is_elsewhere(tmp_path: Path) -> None:
    settings = {"dataset": "folder", "input-shape": "8,3", "classes": "2"}
    path = leave_run(tmp_path / "one", settings=settings)
    with pytest.raises(RunError, match="found data on devices"):
        load_run(path).confusion()
