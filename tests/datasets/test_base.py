import numpy as np
import pytest

from caafp_app.datasets import DataSource, Windows, source_of
from caafp_app.errors import DataError, SettingsError
from caafp_app.registry import DATASETS
from caafp_app.settings import DataSettings


def windows(users: list[int]) -> Windows:
    x = np.arange(len(users) * 6, dtype=np.float64).reshape(-1, 3, 2)
    return Windows.grouped(x, np.arange(len(users)) % 2, np.array(users), ("a", "b"))


def test_grouped_brings_users_together_and_keeps_their_order() -> None:
    made = windows([7, 2, 7, 2, 9])

    assert made.user.tolist() == [2, 2, 7, 7, 9]
    assert made.x[:, 0, 0].tolist() == [6, 18, 0, 12, 24]
    assert made.y.tolist() == [1, 1, 0, 0, 0]
    assert made.users.tolist() == [2, 7, 9]


def test_one_user_is_a_view() -> None:
    made = windows([7, 2, 7, 2, 9])
    user = made.of_user(7)

    assert user.x[:, 0, 0].tolist() == [0, 12]
    assert np.shares_memory(user.x, made.x)
    assert len(made.of_user(8).y) == 0


def test_arrays_that_do_not_fit_are_a_fault_of_the_source() -> None:
    good = windows([1, 2])
    with pytest.raises(ValueError, match="one length, found 2, 1, 2"):
        Windows(good.x, good.y[:1], good.user, ("a", "b"))
    with pytest.raises(ValueError, match="found float64, int64, int64"):
        Windows(good.x.astype(np.float64), good.y, good.user, ("a", "b"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ascending"):
        Windows(good.x, good.y, good.user[::-1], ("a", "b"))


@pytest.mark.parametrize("index", [-1, 4, 10**6])
def test_a_user_that_is_not_there_is_a_data_error(npz_file, index: int) -> None:
    settings = DataSettings(dataset="npz", data_dir=str(npz_file))
    with pytest.raises(DataError, match=f"between 0 and 3, found {index}"):
        source_of("npz").client(settings, index)


def test_every_name_has_one_source() -> None:
    sources = [source_of(name) for name in DATASETS.builtin]
    assert all(isinstance(source, DataSource) for source in sources)
    assert len({type(source) for source in sources}) == len(sources)
    assert source_of("synthetic") is sources[0]


@pytest.mark.parametrize("path", ["math:pi", "builtins:dict"])
def test_what_is_no_data_set_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match=r"dataset: expected a subclass of .*DataSource at"):
        source_of(path)
