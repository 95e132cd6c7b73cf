from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caafp_app.datasets import ClientDescription, data_shape, describe_client, load_client
from caafp_app.datasets.split import hold_out
from caafp_app.errors import DataError, SettingsError
from caafp_app.settings import DataSettings


def node(index: int, of: int = 12) -> dict[str, int]:
    return {"partition-id": index, "num-partitions": of}


def test_a_simulated_client_gets_the_windows_of_its_user(npz_file: Path) -> None:
    settings = DataSettings(dataset="npz", data_dir=str(npz_file))
    client = load_client(settings, node(3, 4))
    with np.load(npz_file) as data:
        mine = data["user"] == 21
        x, y = data["X"][mine], data["y"][mine]

    assert client.label == "user-21"
    assert client.input_shape == (6, 2)
    assert client.class_names == ("sit", "stand", "walk")
    for c in range(3):
        rows = np.flatnonzero(y == c)
        kept = len(rows) - len(rows) // 5
        np.testing.assert_array_equal(client.train_x[client.train_y == c], x[rows[:kept]])
        np.testing.assert_array_equal(client.test_x[client.test_y == c], x[rows[kept:]])
    assert client.examples == len(client.train_y)
    assert client.examples + len(client.test_y) == 40
    assert client.train_x.dtype == np.float32
    assert client.train_y.dtype == np.int64
    # Each value tells its window: recording order over all classes.
    assert np.all(np.diff(client.train_x[:, 0, 0]) > 0)


@pytest.mark.parametrize(
    "settings",
    [
        DataSettings(),
        DataSettings(validation_fraction=0.2, window_gap=1),
        DataSettings(partition="dirichlet", partition_alpha=5.0),
        DataSettings(partition="shards", num_clients=5),
        DataSettings(partition="iid", standardise="client"),
    ],
    ids=lambda s: f"{s.partition}-{s.validation_fraction}",
)
def test_the_description_is_that_of_the_data(settings: DataSettings) -> None:
    if settings.partition != "natural":
        pytest.importorskip("flwr_datasets")
    clients = settings.num_clients or 12
    seen = set()
    for index in range(clients):
        told, client = describe_client(settings, node(index)), load_client(settings, node(index))
        assert told == ClientDescription(client.label, client.examples, clients)
        assert client.examples > 0
        seen.add(told.label)
    assert len(seen) == clients


def test_the_train_windows_of_a_partition_bear_their_time() -> None:
    pytest.importorskip("flwr_datasets")
    client = load_client(DataSettings(partition="iid"), node(3))
    assert client.label == "part-0003"
    assert client.train_time is not None
    assert len(client.train_time) == len(client.train_y)
    # What a client trains on comes before its test windows, which are a fifth of each class.
    assert client.train_time.max() < 0.9
    held = hold_out(client, 0.2).held_out
    for label in np.unique(client.train_y):
        of_label = client.train_y == label
        assert client.train_time[held[of_label[held]]].min() >= np.quantile(
            client.train_time[of_label], 0.7
        )


def test_more_nodes_than_users_are_idle_and_say_so() -> None:
    settings = DataSettings(dataset="uci-har", data_dir="nowhere")
    told = describe_client(settings, node(30, 40))

    assert told.idle == "the data set uci-har has 30 users"
    assert (told.examples, told.population) == (0, 30)
    assert told.label != describe_client(settings, node(31, 40)).label
    reason = r"partition 30 of 40, .*: the data set uci-har has 30 users"
    with pytest.raises(DataError, match=reason):
        load_client(settings, node(30, 40))
    told = describe_client(DataSettings(partition="iid", num_clients=5), node(5))
    assert told.idle == "partition 'iid' makes 5 clients (num-clients)"


def test_a_client_with_nothing_left_to_train_on_is_idle() -> None:
    settings = DataSettings(window_gap=1000)
    told = describe_client(settings, node(0))
    assert "window-gap 1000" in told.idle
    with pytest.raises(DataError, match="user-00: expected windows to train on"):
        load_client(settings, node(0))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, r"data-path .*partition-id and num-partitions .*found an empty node-config"),
        ({"partition-id": 1}, "data-path .*found partition-id"),
        ({"label": "x"}, "data-path .*found label"),
        *(
            ({"partition-id": value, "num-partitions": 3}, "partition-id .*expected a whole number")
            for value in (-1, 1.5, True, "3")
        ),
        ({"data-path": ""}, "data-path in the node-config: expected a path"),
        ({"data-path": 3}, "data-path in the node-config: expected a path"),
    ],
)
def test_a_node_config_that_is_none_is_refused(config: dict[str, Any], message: str) -> None:
    for ask in (load_client, describe_client):
        with pytest.raises(DataError, match=message):
            ask(DataSettings(), config)


def test_validation_never_sees_the_test_part(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 4, 2)), np.arange(100) % 2
    loaded = []
    for name in ("one", "two"):
        np.savez(tmp_path / f"{name}.npz", X=x, y=y, user=np.zeros(100, int))
        settings = DataSettings(
            dataset="npz",
            data_dir=str(tmp_path / f"{name}.npz"),
            validation_fraction=0.25,
            standardise="client",
        )
        loaded.append(load_client(settings, node(0, 1)))
        x[80:] += 1000.0  # the last fifth of both classes: the true test part
    one, two = loaded

    assert (len(one.train_y), len(one.test_y)) == (60, 20)
    np.testing.assert_array_equal(one.train_x, two.train_x)
    np.testing.assert_array_equal(one.test_x, two.test_x)
    assert np.abs(two.test_x).max() < 10


def test_standardise_follows_the_setting(npz_file: Path) -> None:
    settings = DataSettings(dataset="npz", data_dir=str(npz_file), standardise="client")
    client = load_client(settings, node(0, 4))
    np.testing.assert_allclose(client.train_x.mean((0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(client.train_x.std((0, 1)), 1, rtol=1e-5)
    auto = load_client(DataSettings(dataset="npz", data_dir=str(npz_file)), node(0, 4))
    assert abs(auto.train_x.mean()) > 1


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "pi-4.npz"
    rng = np.random.default_rng(1)
    np.savez(path, X=rng.normal(size=(50, 6, 2)), y=np.arange(50) % 3)
    return path


def test_a_device_with_its_own_data(device: Path) -> None:
    settings = DataSettings(dataset="folder", input_shape="6,2", classes="3")
    client = load_client(settings, {"data-path": str(device)})

    assert client.label == "pi-4"
    assert client.class_names == ("0", "1", "2")
    assert client.examples + len(client.test_y) == 50
    assert describe_client(settings, {"data-path": str(device)}) == ClientDescription(
        "pi-4", client.examples, 0
    )
    named = {"data-path": str(device), "label": "kitchen", "partition-id": 0, "num-partitions": 2}
    assert load_client(settings, named).label == "kitchen"
    assert load_client(settings, {"data-path": str(device), "label": 7}).label == "7"


def test_a_device_may_serve_a_data_set_of_known_shape(tmp_path: Path) -> None:
    lines = ["window,label,a,b,c,d,e,f", *["0,cycling,1,2,3,4,5,6"] * 64]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    client = load_client(DataSettings(), {"data-path": str(tmp_path), "label": "me"})

    assert client.train_x.shape == (1, 64, 6)
    assert client.train_y.tolist() == [2]
    assert client.test_x.shape == (0, 64, 6)


@pytest.mark.parametrize("label", ["", "a/b", "x" * 101, "new\nline"])
def test_a_label_that_cannot_be_one_is_refused(device: Path, label: str) -> None:
    settings = DataSettings(dataset="folder", input_shape="6,2", classes="3")
    with pytest.raises(DataError, match="label in the node-config: expected a client label"):
        describe_client(settings, {"data-path": str(device), "label": label})
    with pytest.raises(DataError, match="expected data-path in the node-config"):
        load_client(settings, node(0))


def test_the_server_knows_the_shape(npz_file: Path) -> None:
    assert data_shape(DataSettings()).input_shape == (64, 6)
    assert data_shape(DataSettings(dataset="uci-har", data_dir="nowhere")).input_shape == (128, 9)
    assert data_shape(DataSettings(dataset="wisdm")).input_shape == (200, 3)
    assert data_shape(DataSettings(dataset="npz", data_dir=str(npz_file))).input_shape == (6, 2)
    folder = DataSettings(dataset="folder", input_shape="8", classes="2")
    assert data_shape(folder).input_shape == (8,)
    with pytest.raises(SettingsError, match="input-shape"):
        DataSettings(dataset="folder")
