"""The one place that knows where a client's data comes from.

In a simulation Flower gives every node ``partition-id`` and ``num-partitions``; on a device the
operator typed ``data-path``. Everything else follows from the settings. A node that no user is left
for is not an error: it is *idle*, and says so.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from caafp_app.datasets.base import ClientData, DataShape, Windows, source_of
from caafp_app.datasets.folder import FolderSource, read_folder
from caafp_app.datasets.form import Form
from caafp_app.datasets.partition import partitions
from caafp_app.datasets.scaling import Scaling
from caafp_app.datasets.split import Split, split_of
from caafp_app.errors import DataError, reading
from caafp_app.safe_text import LABEL_FORM, is_label
from caafp_app.settings import DataSettings

NodeConfig: TypeAlias = Mapping[str, bool | int | float | str]


@dataclass(frozen=True)
class ClientDescription:
    """What a node says about itself before any training.

    `examples` are windows that it would train on; `population` the clients that the data set has
    (0 on a device, where nobody knows); `idle` says why the node has nothing to do.
    """

    label: str
    examples: int
    population: int
    idle: str = ""


class _Client(NamedTuple):
    """A client's windows before anything of them is copied."""

    label: str
    windows: Windows
    split: Split
    train_time: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class _Seat:
    """The place of a node in a simulation."""

    index: int
    seats: int
    population: int
    of: str

    @property
    def idle(self) -> str:
        """Why there is nothing to do: in the same words for all such nodes, to be told once."""
        return "" if self.index < self.population else self.of


def data_shape(settings: DataSettings) -> DataShape:
    """Return what a model has to fit: for the server, which may have no data.

    Raises SettingsError or DataError if the settings do not tell, and no data is there.
    """
    with _reading(settings):
        return source_of(settings.dataset).shape(settings)


def scaled_by_client(settings: DataSettings) -> bool:
    """Tell whether each client scales its windows, by the setting or as the data set does."""
    own = source_of(settings.dataset).standardise
    return (own if settings.standardise == "auto" else settings.standardise) == "client"


def load_client(settings: DataSettings, node_config: NodeConfig) -> ClientData:
    """Return the data of this node, split and scaled.

    The node's config has ``data-path`` and maybe ``label`` (a device), or ``partition-id`` and
    ``num-partitions`` (a simulation). A device that has both goes by ``data-path``. The test part
    is the validation part where ``validation-fraction`` asks for one; the true one is not read.

    Raises DataError if the node says neither, is idle, or its data is missing or wrong,
    SettingsError if the settings do not go with the data.
    """
    seat = _seat(settings, node_config)
    if seat is not None and seat.idle:
        raise DataError(
            f"expected a client with data, found partition {seat.index} of {seat.seats}, which has "
            f"none: {seat.idle}"
        )
    label, windows, (train, held_out), train_time = client = _client(settings, node_config, seat)
    if not len(train):
        raise DataError(f"{label}: {_nothing_left(settings, client)}")
    # asarray: a plain array instead of one that says it is mapped from a file.
    train_x, test_x = np.asarray(windows.x[train]), np.asarray(windows.x[held_out])
    scaling = Scaling.of(train_x) if scaled_by_client(settings) else None
    if scaling is not None:
        train_x, test_x = scaling.apply(train_x), scaling.apply(test_x)
    train_y, test_y = windows.y[train], windows.y[held_out]
    return ClientData(
        label, train_x, train_y, test_x, test_y, windows.class_names, scaling, train_time
    )


def describe_client(settings: DataSettings, node_config: NodeConfig) -> ClientDescription:
    """Return who this node is, without copying its windows.

    Law: ``label`` and ``examples`` are those of `load_client`, for every node that is not idle, and
    so are the errors.
    """
    seat = _seat(settings, node_config)
    if seat is not None and seat.idle:
        return ClientDescription(f"idle-{seat.index:04d}", 0, seat.population, seat.idle)
    client = _client(settings, node_config, seat)
    population = 0 if seat is None else seat.population
    examples = len(client.split.train)
    idle = "" if examples else _nothing_left(settings, client)
    return ClientDescription(client.label, examples, population, idle)


def _client(settings: DataSettings, node_config: NodeConfig, seat: _Seat | None) -> _Client:
    """Find the windows of a node that is not idle, and divide them."""
    source = source_of(settings.dataset)
    if seat is None:
        path = _data_path(node_config)
        with reading(path, DataError):
            windows = read_folder(path, *form_on_device(settings))
        label = _device_label(path, node_config)
        return _Client(label, windows, split_of(settings, windows.y))
    if settings.partition == "natural":
        windows = source.client(settings, seat.index)
        user = int(windows.user[0])
        label = windows.name_of(user) or source.label(user)
        return _Client(label, windows, split_of(settings, windows.y))
    with _reading(settings):
        windows = source.windows(settings)
    rows, time = partitions(settings, seat.population)[seat.index]
    train, held_out = split_of(settings, windows.y[rows], time)
    split = Split(rows[train], rows[held_out])
    return _Client(f"part-{seat.index:04d}", windows, split, time[train])


def _nothing_left(settings: DataSettings, client: _Client) -> str:
    return (
        f"expected windows to train on, found none left of {len(client.windows.y)} after "
        f"window-gap {settings.window_gap} and validation-fraction {settings.validation_fraction:g}"
    )


def _seat(settings: DataSettings, node_config: NodeConfig) -> _Seat | None:
    """Return the place in a simulation, or None on a device."""
    if "data-path" in node_config:
        return None
    if not {"partition-id", "num-partitions"} <= node_config.keys():
        raise DataError(
            "expected data-path in the node-config (a device with its own data), or partition-id "
            "and num-partitions (a simulation gives them to every node), found "
            f"{', '.join(sorted(node_config)) or 'an empty node-config'}"
        )
    index = _count(node_config, "partition-id")
    seats = _count(node_config, "num-partitions")
    if settings.partition == "natural":
        with _reading(settings):
            population = source_of(settings.dataset).population(settings)
        of = f"the data set {settings.dataset} has {population} users"
    else:
        population = settings.num_clients or seats
        of = f"partition {settings.partition!r} makes {population} clients (num-clients)"
    return _Seat(index, seats, population, of)


def _count(node_config: NodeConfig, key: str) -> int:
    value = node_config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(
            f"{key} in the node-config: expected a whole number from 0, found {value!r}"
        )
    return value


def _data_path(node_config: NodeConfig) -> Path:
    value = node_config["data-path"]
    if not isinstance(value, str) or not value:
        raise DataError(f"data-path in the node-config: expected a path, found {value!r}")
    return Path(value).expanduser()


def form_on_device(settings: DataSettings) -> tuple[DataShape, Form]:
    """Return the form that a device's windows have to have, and what the run says of recordings.

    A run over devices may name any data set, for its shape and class names; what the settings spell
    out goes before it. Classes that are numbers alone have no names to compare.
    """
    spelt_out = settings.shape is not None
    shape = FolderSource().shape(settings) if spelt_out else data_shape(settings)
    names = settings.names_of_classes if spelt_out else shape.class_names
    return shape, Form(names, settings.names_of_channels, settings.sampling_rate)


def _device_label(path: Path, node_config: NodeConfig) -> str:
    named = "label" in node_config
    label = str(node_config["label"]) if named else path.resolve().stem
    if not is_label(label):
        raise DataError(
            f"{'label in the node-config' if named else f'data-path {path}'}: expected a client "
            f"label of {LABEL_FORM}, found {label!r}; set label in "
            "the node-config"
        )
    return label


def _reading(settings: DataSettings) -> AbstractContextManager[None]:
    """Turn whatever a data set's files can be into one sentence."""
    where = settings.data_dir or "its files"
    return reading(f"dataset {settings.dataset}, {where}", DataError)
