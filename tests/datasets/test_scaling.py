import numpy as np

from caafp_app.datasets.scaling import Scaling
from tests.tolerance import close


def test_scaling_is_by_the_training_part_alone() -> None:
    rng = np.random.default_rng(0)
    train = rng.normal([3.0, -100.0, 0.0], [2.0, 0.01, 5.0], size=(40, 10, 3)).astype(np.float32)
    test = rng.normal(50.0, 9.0, size=(7, 10, 3)).astype(np.float32)
    scaling = Scaling.of(train)
    scaled_train, scaled_test = scaling.apply(train), scaling.apply(test)

    flat = train.astype(np.float64).reshape(-1, 3)
    mean, deviation = flat.mean(axis=0), flat.std(axis=0)
    close(scaled_test, (test - mean) / deviation, np.float32)
    np.testing.assert_allclose(scaled_train.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled_train.std((0, 1)), 1, rtol=1e-4)
    assert scaled_train.dtype == scaled_test.dtype == np.float32


def test_a_channel_that_never_changes_becomes_zero() -> None:
    train = np.full((30, 7, 2), 0.1, np.float32)
    train[:, :, 1] = np.arange(7)
    scaling = Scaling.of(train)
    scaled, empty = scaling.apply(train), scaling.apply(train[:0])

    np.testing.assert_allclose(scaled[..., 0], 0, atol=1e-6)
    assert np.isfinite(scaled).all()
    assert empty.shape == (0, 7, 2)
