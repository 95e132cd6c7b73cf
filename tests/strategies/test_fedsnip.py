"""FedSNIP against its rule in numpy, with somebody else's app."""

import numpy as np
import pytest

from caafp_app.strategies.fedsnip import FedSNIP
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.strategies.support import Recorder, nodes, run

KEPT = 22  # of 72, at sparsity 0.7


def flat(model: list[np.ndarray]) -> np.ndarray:
    """The prunable arrays, which are the first two."""
    return np.concatenate([array.ravel() for array in model[:2]])


def training(part: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = numpy_app.windows(part)
    return x[: -numpy_app.TEST], y[: -numpy_app.TEST]


def reference_mask(clients: int) -> np.ndarray:
    """The largest sums of |g w|, each client's divided by its mean; the app's drift is -g."""
    model = numpy_app.initial().to_numpy_ndarrays()
    total = np.zeros(72)
    for part in range(clients):
        drift = flat(numpy_app.descend(model, *training(part))) - flat(model)
        saliency = np.abs(drift * flat(model)).astype(np.float64)
        total += saliency / saliency.mean()
    mask = np.zeros(72, dtype=bool)
    mask[np.argsort(-total)[:KEPT]] = True
    return mask


def test_one_mask_is_cut_from_what_all_clients_say_and_never_changes() -> None:
    seen = Recorder()
    strategy = FedSNIP(clients_per_round=2, sparsity=0.7, seed=3, observer=seen)
    masks: list[np.ndarray] = []
    for number in (1, 2, 3):
        seen.at[number, "train"] = lambda: masks.append(strategy.models[-1].mask.bits.copy())
    grid = LocalGrid(numpy_app.make_app(), nodes(5))
    result = strategy.start(grid, numpy_app.initial(), num_rounds=3)
    truth = reference_mask(5)
    assert len(masks) == 3
    for mask in masks:
        np.testing.assert_array_equal(mask, truth)
    asked = [(record.phase, record.asked) for record in seen.rounds]
    assert asked[0] == ("saliency", 5)
    assert [count for phase, count in asked if phase == "train"] == [2, 2, 2]
    assert not flat(result.arrays.to_numpy_ndarrays())[~truth].any()
    assert seen.report is not None
    assert {c.personal_sparsity for c in seen.report.clients} == {1 - KEPT / 72}


def test_a_round_is_sparse_fedavg() -> None:
    strategy = FedSNIP(sparsity=0.7, personalise=False, fraction_evaluate=0.0)
    result = strategy.start(
        LocalGrid(numpy_app.make_app(), nodes(4)), numpy_app.initial(), num_rounds=1
    )
    start, mask = numpy_app.initial().to_numpy_ndarrays(), reference_mask(4)
    for array, part in zip(start[:2], np.split(mask, 2), strict=True):
        array *= part.reshape(array.shape)
    local = [numpy_app.descend(start, *training(part)) for part in range(4)]
    sizes = [len(training(part)[1]) for part in range(4)]
    truth = [np.average(parts, axis=0, weights=sizes) for parts in zip(*local, strict=True)]
    found = result.arrays.to_numpy_ndarrays()
    np.testing.assert_allclose(flat(found), np.where(mask, flat(truth), 0), atol=1e-5)
    np.testing.assert_allclose(found[2], truth[2], atol=1e-5)


@pytest.mark.e2e
def test_our_own_app_reports_gradients_and_keeps_the_mask_in_fine_tuning() -> None:
    done = run({"strategy": "fedsnip", "sparsity": 0.9})
    (model,) = done.strategy.models.values()
    assert model.mask.count == round(0.1 * model.layout.weight_count)
    assert len(done.asked()[0, "saliency"]) == 6
    assert done.seen.report is not None
    for client in done.seen.report.clients:
        assert client.personal_sparsity == pytest.approx(0.9, abs=1e-4)
