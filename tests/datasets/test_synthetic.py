import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from caafp_app.datasets import load_client, planted_groups, source_of
from caafp_app.datasets.synthetic import CLASSES
from caafp_app.errors import DataError
from caafp_app.settings import DataSettings

SOURCE = source_of("synthetic")


def test_shape_and_population_come_from_the_settings() -> None:
    settings = DataSettings(synthetic_users=7, synthetic_windows=33)
    windows = SOURCE.windows(settings)

    assert SOURCE.shape(settings) == windows.shape
    assert windows.shape.input_shape == (64, 6)
    assert SOURCE.population(settings) == len(windows.users) == 7
    assert np.bincount(windows.user).tolist() == [33] * 7
    assert np.isfinite(windows.x).all()
    assert set(windows.y.tolist()) == set(range(len(CLASSES)))


@pytest.mark.parametrize("windows", [1, 2, 5, 120])
def test_a_user_has_as_many_windows_as_asked_for(windows: int) -> None:
    assert len(SOURCE.client(DataSettings(synthetic_windows=windows), 3).y) == windows


def test_the_data_seed_alone_decides() -> None:
    first, again, other = (SOURCE.client(DataSettings(data_seed=seed), 4) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.y, again.y)
    assert not np.array_equal(first.x, other.x)


def test_a_user_is_the_same_alone_and_among_any_number() -> None:
    few, many = DataSettings(synthetic_users=5), DataSettings(synthetic_users=1000)
    everything = SOURCE.windows(few)
    for index in range(5):
        np.testing.assert_array_equal(SOURCE.client(many, index).x, everything.of_user(index).x)
        np.testing.assert_array_equal(SOURCE.client(many, index).y, everything.of_user(index).y)


@pytest.mark.parametrize("index", [-1, 12])
def test_there_is_no_other_user(index: int) -> None:
    with pytest.raises(DataError, match=f"between 0 and 11 .*found {index}"):
        SOURCE.client(DataSettings(), index)


@pytest.mark.parametrize(("users", "groups"), [(12, 3), (13, 4), (1, 1), (40, 6)])
def test_groups_are_balanced_and_do_not_follow_the_numbers(users: int, groups: int) -> None:
    settings = DataSettings(synthetic_users=users, synthetic_groups=groups)
    planted = planted_groups(settings)
    sizes = np.bincount(planted, minlength=groups)

    assert sizes.sum() == users
    assert sizes.max() - sizes.min() <= 1
    if users >= 12:
        assert planted.tolist() != [k % groups for k in range(users)]
    longer = DataSettings(synthetic_users=users + 9, synthetic_groups=groups)
    assert planted_groups(longer)[:users].tolist() == planted.tolist()


def features(x: np.ndarray) -> np.ndarray:
    """Means and spectra: what a small convolutional network finds by itself."""
    spectrum = np.abs(np.fft.rfft(x - x.mean(1, keepdims=True), axis=1))[:, :14]
    return np.concatenate([6 * x.mean(1), spectrum.reshape(len(x), -1)], axis=1)


def accuracy(settings: DataSettings, users: np.ndarray) -> float:
    """Train one model on these users, score it on their held-out windows."""
    node = [{"partition-id": int(k), "num-partitions": settings.synthetic_users} for k in users]
    clients = [load_client(settings, config) for config in node]
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.05)
    model.fit(
        features(np.concatenate([c.train_x for c in clients])),
        np.concatenate([c.train_y for c in clients]),
    )
    return float(np.mean([model.score(features(c.test_x), c.test_y) for c in clients]))


@pytest.mark.parametrize("seed", range(3))
def test_a_group_can_be_learnt_and_all_together_not_as_well(seed: int) -> None:
    settings = DataSettings(data_seed=seed)
    planted = planted_groups(settings)
    within = [accuracy(settings, np.flatnonzero(planted == group)) for group in range(3)]
    together = accuracy(settings, np.arange(12))

    assert min(within) > 0.9
    assert together < np.mean(within) - 0.05
