import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.datasets import source_of
from caafp_app.datasets.partition import MIN_WINDOWS, partitions, recording_time
from caafp_app.datasets.split import split_by_class
from caafp_app.errors import SettingsError
from caafp_app.settings import DataSettings

pytest.importorskip("flwr_datasets", reason="the extra 'simulation' is not installed")

KINDS = ("dirichlet", "shards", "iid")


def of_synthetic(kind: str, **changes: object) -> DataSettings:
    values = {"synthetic_users": 6, "synthetic_windows": 50, "partition_alpha": 1.0} | changes
    return DataSettings(partition=kind, **values)  # type: ignore[arg-type]


@settings(max_examples=8)
@given(st.sampled_from(KINDS), st.integers(1, 9), st.integers(1, 4), st.integers(0, 50))
def test_no_window_is_dealt_twice_and_none_is_lost(
    kind: str, clients: int, shards: int, seed: int
) -> None:
    setting = of_synthetic(kind, shards_per_client=shards, data_seed=seed)
    rows = [part.rows for part in partitions(setting, clients)]
    dealt = np.concatenate(rows)

    assert len(rows) == clients
    assert len(np.unique(dealt)) == len(dealt)
    assert dealt.min() >= 0
    assert dealt.max() < 300
    assert min(map(len, rows)) >= MIN_WINDOWS
    assert all(np.all(np.diff(part) > 0) for part in rows)
    lost = 300 - len(dealt)
    assert lost < shards * clients if kind == "shards" else lost == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_data_seed_alone_decides(kind: str) -> None:
    first = partitions(of_synthetic(kind), 5)
    partitions.cache_clear()
    again = partitions(of_synthetic(kind), 5)
    other = partitions(of_synthetic(kind, data_seed=1), 5)

    assert all(a.rows.tolist() == b.rows.tolist() for a, b in zip(first, again, strict=True))
    assert any(a.rows.tolist() != b.rows.tolist() for a, b in zip(first, other, strict=True))


def class_shares(setting: DataSettings, clients: int) -> np.ndarray:
    labels = source_of("synthetic").windows(setting).y
    counts = np.stack(
        [np.bincount(labels[part.rows], minlength=5) for part in partitions(setting, clients)]
    )
    return counts / counts.sum(axis=1, keepdims=True)


def test_the_settings_say_how_uneven_the_clients_classes_are() -> None:
    uneven = class_shares(of_synthetic("dirichlet", partition_alpha=0.1), 5).std(axis=0).mean()
    mild = class_shares(of_synthetic("dirichlet", partition_alpha=100.0), 5).std(axis=0).mean()
    assert uneven > 0.2 > 0.08 > mild
    shards = class_shares(of_synthetic("shards", shards_per_client=2), 10)
    assert np.mean((shards > 0).sum(axis=1)) < 3.5
    assert class_shares(of_synthetic("iid"), 5).std(axis=0).mean() < 0.08
    users = source_of("synthetic").windows(of_synthetic("iid")).user
    for part in partitions(of_synthetic("iid"), 5):  # windows of all users
        assert len(np.unique(users[part.rows])) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_more_clients_than_windows_are_refused(kind: str) -> None:
    with pytest.raises(SettingsError, match=r"windows for 200 clients .*found 300"):
        partitions(of_synthetic(kind, shards_per_client=2), 200)


def test_a_division_that_dirichlet_cannot_find_is_refused_with_what_to_do() -> None:
    with pytest.raises(SettingsError, match=r"larger partition-alpha than 0.001"):
        partitions(of_synthetic("dirichlet", partition_alpha=0.001), 60)


def test_without_flwr_datasets_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    partitions.cache_clear()
    monkeypatch.setitem(sys.modules, "flwr_datasets", None)
    with pytest.raises(SettingsError, match=r"caafp-app\[simulation\]"):
        partitions(of_synthetic("iid"), 3)


def test_recording_time_is_the_place_in_a_users_class(npz_file: Path) -> None:
    windows = source_of("npz").windows(DataSettings(dataset="npz", data_dir=str(npz_file)))
    time = recording_time(windows)
    for user in windows.users:
        for label in range(3):
            mine = time[(windows.user == user) & (windows.y == label)]
            np.testing.assert_allclose(mine, (np.arange(len(mine)) + 0.5) / len(mine))


def test_test_windows_are_late_in_everybodys_recordings() -> None:
    setting = of_synthetic("dirichlet", synthetic_windows=200)
    labels = source_of("synthetic").windows(setting).y
    for part in partitions(setting, 3):
        split = split_by_class(labels[part.rows], time=part.time)
        held_out = part.time[split.held_out]
        # The border of a client is at 0.8 but for chance: its classes are samples of the whole.
        assert np.quantile(held_out, 0.05) > 0.7
        assert part.time[split.train].max() < 0.95
