"""Settings of the data: which windows, whose they are, and what of them is held out."""

import re
from dataclasses import dataclass

from caafp_app import registry
from caafp_app.errors import SettingsError
from caafp_app.settings.knob import Group, knob

_NUMBER = re.compile(r"[1-9]\d{0,5}", re.ASCII)


@dataclass(frozen=True)
class DataSettings(Group):
    """Which data, how it is divided among the clients, and what of it is held out."""

    dataset: str = knob("synthetic", "where the windows come from", choices=registry.DATASETS)
    data_dir: str = knob("", "folder or file of the data set; empty: its cache")
    partition: str = knob(
        "natural",
        "natural: a user is a client; or a split by labels",
        choices=("natural", "dirichlet", "shards", "iid"),
    )
    partition_alpha: float = knob(0.5, "dirichlet: concentration, small is uneven", above=0.0)
    shards_per_client: int = knob(2, "shards: label shards that each client gets", low=1)
    num_clients: int = knob(0, "not natural: clients to make; 0: as many as SuperNodes", low=0)
    train_fraction: float = knob(
        0.8, "first part in time, per client and class, to train on", above=0.0, below=1.0
    )
    validation_fraction: float = knob(
        0.0, "last part of the train data, scored instead of test", low=0.0, below=1.0
    )
    window_gap: int = knob(0, "windows dropped at each train/test border", low=0)
    standardise: str = knob(
        "auto", "auto: as the data set's paper does", choices=("auto", "none", "client")
    )
    input_shape: str = knob("", 'folder: window shape that the server builds for, as "128,9"')
    classes: str = knob("", 'folder: number of classes, or their names in order, as "walk,sit"')
    channels: str = knob("", 'folder: channels that devices have to name, as "acc_x,acc_y"')
    sampling_rate: float = knob(0.0, "folder: Hz that devices have to have; 0: not asked", low=0.0)
    synthetic_users: int = knob(12, "synthetic: users", low=1, high=1e6)
    synthetic_groups: int = knob(3, "synthetic: latent groups of users", low=1)
    synthetic_windows: int = knob(120, "synthetic: windows per user", low=1, high=1e6)
    share_class_counts: bool = knob(
        False, "at the end clients tell how many windows of each class a model takes for which"
    )
    data_seed: int = knob(0, "synthetic data and partitions, apart from seed", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input_shape and self.shape is None:
            raise SettingsError(
                'input-shape: expected positive whole numbers as "128,9" (time, channels), '
                f"found {self.input_shape!r}"
            )
        self._check_names()
        if self.dataset == "folder" and not (self.shape and self.class_count):
            raise SettingsError(
                "dataset 'folder' leaves the windows on the devices, so the server has to be told "
                'their form: expected input-shape="time,channels" and classes="6" or "walk,sit", '
                f"found input-shape={self.input_shape!r} and classes={self.classes!r}"
            )
        if self.dataset == "folder" and self.partition != "natural":
            raise SettingsError(
                "partition: dataset 'folder' is one client's own data and cannot be divided; "
                f"expected natural, found {self.partition!r}"
            )
        if self.dataset == "npz" and not self.data_dir:
            raise SettingsError(
                "data-dir: dataset 'npz' needs the path of the .npz file with X, y and user, "
                "found nothing"
            )
        if self.partition == "natural" and self.num_clients:
            raise SettingsError(
                "num-clients: a natural partition has one client per user; expected 0, found "
                f"{self.num_clients}; set partition to dirichlet, shards or iid, or leave it out"
            )
        if self.synthetic_groups > self.synthetic_users:
            raise SettingsError(
                f"synthetic-groups: expected at most synthetic-users ({self.synthetic_users}), "
                f"found {self.synthetic_groups}"
            )

    def _check_names(self) -> None:
        for key, found in (
            ("classes", self.names_of_classes),
            ("channels", self.names_of_channels),
        ):
            if len(set(found)) != len(found) or not all(found):
                raise SettingsError(
                    f"{key}: expected different names with commas between, found {', '.join(found)}"
                )
        if self.classes.strip().isdecimal() and not self.class_count:
            raise SettingsError(
                f"classes: expected a number from 1 to 999999, or names, found {self.classes!r}"
            )
        if self.channels and self.shape and self.shape[-1] != len(self.names_of_channels):
            raise SettingsError(
                f"channels: expected the {self.shape[-1]} of input-shape, "
                f"found {len(self.names_of_channels)}"
            )

    @property
    def class_count(self) -> int:
        """How many ``classes`` there are; 0 where nothing is said."""
        text = self.classes.strip()
        if _NUMBER.fullmatch(text):
            return int(text)
        return len(self.names_of_classes)

    @property
    def names_of_classes(self) -> tuple[str, ...]:
        """The names in ``classes``; empty where there are none, or a number alone."""
        return () if self.classes.strip().isdecimal() else _names(self.classes)

    @property
    def names_of_channels(self) -> tuple[str, ...]:
        """``channels`` apart; empty where there are none."""
        return _names(self.channels)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """``input-shape`` as numbers; None where it is empty (or not a shape)."""
        if not re.fullmatch(r"\s*[1-9]\d*(\s*,\s*[1-9]\d*)*\s*", self.input_shape):
            return None
        return tuple(int(part) for part in self.input_shape.split(","))

    @property
    def dataset_name(self) -> str:
        """The data set as a part of a file's name: see `registry.plain_name`."""
        return registry.plain_name(self.dataset)

    @property
    def known_clients(self) -> int | None:
        """How many clients there will be, where the settings alone say it."""
        if self.partition != "natural":
            return self.num_clients or None
        return self.synthetic_users if self.dataset == "synthetic" else None


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()
