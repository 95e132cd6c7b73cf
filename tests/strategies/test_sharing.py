"""Models of clusters that follow the mean of all, against plain numpy."""

import numpy as np
import pytest

from caafp_app.errors import SettingsError
from caafp_app.runner.model import MeanUpdate, SparseModel
from caafp_app.strategies.caafp import CAAFP
from caafp_app.strategies.caafp_method import shared_updates
from tests.runner.support import LAYOUT, model_of, sums_of, updates_for

CLIENTS = {0: 3, 1: 2, 2: 0}
"""Updates that each cluster gets."""


def sent_to(models: dict[int, SparseModel]) -> dict[int, MeanUpdate]:
    """The mean update of each cluster that gets any."""
    found = {}
    for k, model in models.items():
        mean = sums_of(model, updates_for(model, CLIENTS[k], seed=k)).mean()
        if mean is not None:
            found[k] = mean
    return found


@pytest.mark.parametrize("sharing", [0.3, 1.0])
@pytest.mark.parametrize("equal", [True, False])
def test_each_follows_its_own_clients_and_in_part_everybody(sharing: float, equal: bool) -> None:
    models = {k: model_of(seed=0 if equal else k) for k in CLIENTS}
    sent = sent_to(models)
    own = {k: np.zeros(LAYOUT.weight_count) for k in models}
    for k, mean in sent.items():
        own[k][mean.mask.bits] = mean.values
    having = sum(mean.weight * mean.mask.bits for mean in sent.values())
    moved = sum(mean.weight * own[k] for k, mean in sent.items()) / np.maximum(having, 1)
    rest = np.average(
        [mean.rest for mean in sent.values()], axis=0, weights=[m.weight for m in sent.values()]
    )
    found = shared_updates(models, sent, sharing)
    assert found.keys() == models.keys()
    for k, model in models.items():
        bits, after = model.mask.bits, model.moved(found[k]).flat
        wanted = model.flat.weights + ((1 - sharing) * own[k] + sharing * moved) * bits
        np.testing.assert_allclose(after.weights, wanted, atol=1e-6)
        own_rest = sent[k].rest if k in sent else 0.0
        wanted = model.flat.rest + (1 - sharing) * own_rest + sharing * rest
        np.testing.assert_allclose(after.rest, wanted, atol=1e-6)
    if equal and sharing == 1.0:  # then they stay one, that of nobody's clients too
        for update in found.values():
            np.testing.assert_allclose(update.values, found[0].values, atol=1e-12)


def test_otherwise_each_moves_by_itself() -> None:
    models = {k: model_of(seed=k) for k in CLIENTS}
    sent = sent_to(models)
    assert shared_updates(models, sent, 0.0) == sent
    assert shared_updates(models, {}, 0.5) == {}
    alone = {0: models[0]}
    assert shared_updates(alone, {0: sent[0]}, 0.5) == {0: sent[0]}


@pytest.mark.parametrize("sharing", [-0.1, 1.1, float("nan")])
def test_a_share_is_from_nothing_to_all(sharing: float) -> None:
    with pytest.raises(SettingsError, match=r"sharing: expected a number( from 0 to 1)?, found"):
        CAAFP(sharing=sharing)
