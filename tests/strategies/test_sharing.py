"""Models of clusters that follow the mean of all, against plain numpy."""

import numpy as np
import pytest
from caafp_app.strategies.cluster_model import ClusterModel
from numpy.typing import NDArray

from caafp_app.errors import SettingsError
from caafp_app.strategies.caafp import CAAFP
from caafp_app.strategies.sharing import end_round_together
from tests.strategies.test_cluster_model import LAYOUT, model_of, updates_for

CLIENTS = {0: 3, 1: 2, 2: 0}
"""Updates that each cluster gets."""


def models_of(density: float, equal: bool) -> dict[int, ClusterModel]:
    return {k: model_of(density, seed=0 if equal else k) for k in CLIENTS}


def send(models: dict[int, ClusterModel]) -> dict[int, tuple[float, NDArray, NDArray]]:
    """Add updates; return each cluster's examples, mean move of all P weights, and of the rest."""
    sent = {}
    for k, model in models.items():
        moved, rest = np.zeros(LAYOUT.weight_count), np.zeros(LAYOUT.rest_count)
        examples = 0.0
        for label, update, weight in updates_for(model, CLIENTS[k], seed=k):
            model.add(label, update, weight)
            moved[model.mask.bits] += weight * update.values
            rest += weight * update.rest
            examples += weight
        sent[k] = (examples, moved / max(examples, 1), rest / max(examples, 1))
    return sent


@pytest.mark.parametrize("sharing", [0.3, 1.0])
@pytest.mark.parametrize("equal", [True, False])
def test_each_follows_its_own_clients_and_in_part_everybody(sharing: float, equal: bool) -> None:
    models = models_of(0.5, equal)
    before = {k: model.model.copy() for k, model in models.items()}
    sent = send(models)
    end_round_together(models, sharing)
    having = sum(examples * models[k].mask.bits for k, (examples, _, _) in sent.items())
    moved = sum(examples * move for examples, move, _ in sent.values()) / np.maximum(having, 1)
    rest = sum(e * r for e, _, r in sent.values()) / sum(e for e, _, _ in sent.values())
    assert not equal or np.ptp(having[models[0].mask.bits]) == 0
    for k, model in models.items():
        bits = model.mask.bits
        wanted = before[k].weights + ((1 - sharing) * sent[k][1] + sharing * moved) * bits
        np.testing.assert_allclose(model.model.weights, wanted, atol=1e-5)
        assert not model.model.weights[~bits].any()
        wanted = before[k].rest + (1 - sharing) * sent[k][2] + sharing * rest
        np.testing.assert_allclose(model.model.rest, wanted, atol=1e-5)
        assert model.replies == 0


def test_with_all_shared_and_one_mask_the_models_stay_one() -> None:
    models = models_of(0.5, equal=True)
    send(models)
    end_round_together(models, 1.0)
    for model in models.values():
        np.testing.assert_allclose(model.model.weights, models[0].model.weights, atol=1e-6)
    assert models[2].model.weights.any()


@pytest.mark.parametrize(("sharing", "move"), [(0.0, True), (0.5, False)])
def test_otherwise_each_ends_the_round_by_itself(sharing: float, move: bool) -> None:
    models, alone = models_of(0.5, equal=False), models_of(0.5, equal=False)
    send(models)
    send(alone)
    end_round_together(models, sharing, move=move)
    for k, model in alone.items():
        model.end_round(move=move)
        assert models[k].model.weights.tobytes() == model.model.weights.tobytes()
        assert models[k].replies == 0


@pytest.mark.parametrize("sharing", [-0.1, 1.1, float("nan")])
def test_a_share_is_from_nothing_to_all(sharing: float) -> None:
    with pytest.raises(SettingsError, match="sharing: expected a number from 0 to 1"):
        CAAFP(sharing=sharing)


def test_a_round_without_replies_moves_nothing() -> None:
    models = models_of(0.5, equal=True)
    before = models[0].model.weights.copy()
    end_round_together(models, 0.5)
    np.testing.assert_array_equal(models[0].model.weights, before)
