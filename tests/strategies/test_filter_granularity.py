"""``granularity=filter``: whole filters go, and nothing else."""

from typing import Any

import numpy as np
import pytest

from caafp_app.errors import SettingsError
from caafp_app.pruning.filters import filter_mask, places_of_mask
from caafp_app.settings import Settings
from caafp_app.strategies import Pruning
from caafp_app.strategies.factory import check_strategy
from tests.strategies.support import Run, prepare, run

FILTERS = {"granularity": "filter", "clusters": 1, "synthetic-users": 3, "clients-per-round": 2}


@pytest.fixture(scope="module")
def finished() -> Run:
    return run(FILTERS)


def test_the_mask_is_of_whole_filters_and_of_the_density(finished: Run) -> None:
    (cluster,) = finished.result.clusters.values()
    arrays = {name: array.numpy() for name, array in cluster.arrays.items()}
    again = filter_mask(cluster.mask, places_of_mask(arrays, cluster.mask))
    assert all(np.array_equal(again[name], mask) for name, mask in cluster.mask.items())
    assert 0.25 < cluster.density <= 0.3
    filters = cluster.mask["conv1.weight"].any(axis=(1, 2))
    assert 0 < filters.sum() < 64
    assert np.array_equal(cluster.mask["conv2.weight"].any(axis=(0, 2)), filters)
    assert not arrays["conv1.weight"][~filters].any()
    assert arrays["conv1.weight"][filters].all()


def test_the_density_falls_as_planned_and_no_gradients_are_asked_for(finished: Run) -> None:
    planned = {step.round: 1 - step.sparsity for step in finished.seen.plan if step.mask_update}
    assert len(planned) == 3
    for number, density in planned.items():
        (found,) = finished.seen.round(number).density.values()
        assert 0.8 * density < found <= density
    assert not any("gradient-counts" in passage.header for passage in finished.grid.passages)


@pytest.mark.parametrize("model", ["resnet1d", "transformer", "deep-conv-lstm", "sensor-fusion"])
@pytest.mark.parametrize("how", [{"granularity": "filter"}, {"strategy": "efficientfl"}])
def test_a_network_that_is_no_chain_is_refused(how: dict[str, str], model: str) -> None:
    settings = Settings.from_run_config({**how, "model": model})
    with pytest.raises(SettingsError, match=f"har-cnn or digits-cnn; found '{model}'"):
        check_strategy(settings)


def test_a_plug_in_that_is_no_chain_is_refused_before_any_client_works() -> None:
    setup = prepare({"clusters": 1, "model": "resnet1d"})
    setup.strategy.pruning = Pruning(granularity="filter")  # type: ignore[attr-defined]
    with pytest.raises(SettingsError, match=r"filters can be cut in plain chains of layers only"):
        setup.start()
    assert not setup.grid.passages


@pytest.mark.parametrize("allocation", ["erk", "global"])
def test_an_allocation_that_is_of_single_weights_is_refused(allocation: str) -> None:
    config: dict[str, Any] = {"granularity": "filter", "allocation": allocation}
    with pytest.raises(SettingsError, match="expected uniform, found"):
        Settings.from_run_config(config)
