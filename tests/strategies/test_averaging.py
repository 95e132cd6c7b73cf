"""The mean of the models after the last rounds, against plain numpy."""

import numpy as np

from caafp_app.runner.model import SparseModel
from caafp_app.strategies.averaging import LastModels
from tests.runner.support import LAYOUT, model_of, sums_of, updates_for


def rounds_of(count: int) -> list[SparseModel]:
    """One model after each of some rounds."""
    models = [model_of()]
    for seed in range(count):
        mean = sums_of(models[-1], updates_for(models[-1], seed=seed)).mean()
        assert mean is not None
        models.append(models[-1].moved(mean))
    return models[1:]


def noted(models: list[SparseModel], count: int, changed: int = 0) -> LastModels:
    last = LastModels(count, len(models))
    for number, model in enumerate(models, 1):
        last.note(number, {0: model}, changed=number == changed)
    return last


def test_the_last_models_are_averaged_inside_their_mask() -> None:
    models = rounds_of(5)
    last = noted(models, 3)
    restored = LastModels(3, 5)
    restored.restore(LAYOUT, last.state())
    for mean in (last, restored):
        found = mean.put_on({0: models[-1], 1: models[0]})
        for part in ("weights", "rest"):
            truth = np.mean([getattr(m.flat, part) for m in models[2:]], axis=0, dtype=np.float64)
            np.testing.assert_array_equal(getattr(found[0].flat, part), truth.astype(np.float32))
        assert found[0].mask == models[-1].mask
        assert found[1] is models[0]  # of which none was noted


def test_models_of_an_older_mask_are_not_averaged() -> None:
    models = rounds_of(4)
    found = noted(models, 3, changed=4).put_on({0: models[-1]})
    assert found[0].flat.weights.tobytes() == models[-1].flat.weights.tobytes()


def test_none_at_all_is_the_default() -> None:
    models = rounds_of(2)
    assert noted(models, 0).put_on({0: models[-1]})[0] is models[-1]
