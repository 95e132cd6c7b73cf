"""FedAvg against a loop in numpy, with somebody else's app."""

import numpy as np
import pytest

from caafp_app.runner.roster import Client, generator, sample
from caafp_app.strategies.fedavg import FedAvg
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.strategies.support import Recorder, nodes


def reference(rounds: int, clients: int, per_round: int, seed: int) -> list[np.ndarray]:
    """Mean of the sampled clients' models, weighted by their examples, round by round."""
    model = numpy_app.initial().to_numpy_ndarrays()
    everyone = [Client(f"part-{k:04d}", k) for k in range(clients)]
    for number in range(1, rounds + 1):
        drawn = sample(everyone, per_round, generator(seed, number, "sample"))
        model = numpy_app.averaged((client.node for client in drawn), model)
    return model


def test_it_is_federated_averaging_and_ends_with_the_personalise_phase() -> None:
    seen = Recorder()
    strategy = FedAvg(clients_per_round=3, seed=4, observer=seen)
    result = strategy.start(
        LocalGrid(numpy_app.make_app(), nodes(5)), numpy_app.initial(), num_rounds=4
    )
    for array, truth in zip(
        result.arrays.to_numpy_ndarrays(), reference(4, 5, 3, seed=4), strict=True
    ):
        np.testing.assert_allclose(array, truth, atol=1e-5)
    assert [step.round for step in seen.plan] == [1, 2, 3, 4]
    phases = {record.phase: record for record in seen.rounds}
    assert phases["train"].density == {-1: 1.0}
    assert phases["personalise"].answered == 5
    assert list(result.clusters) == [-1]
    assert seen.report is not None
    for client in seen.report.clients:
        assert client.cluster_accuracy is not None
        assert client.personal_accuracy is not None
        assert client.personal_sparsity == 0.0
    before = np.mean([client.cluster_loss for client in seen.report.clients])
    after = np.mean([client.personal_loss for client in seen.report.clients])
    assert after < before
    assert seen.report.ledger.formula_total == pytest.approx(4 * 3 * 2 * 4 * 75)
