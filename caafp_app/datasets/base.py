"""The small interface that every source of data has, and the three shapes data takes on its way.

A *source* knows whole recordings (`Windows`). A *client* knows one part of them, cut into train and
held-out (`ClientData`). The *server* may know neither, and needs `DataShape` to build a model.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from caafp_app.datasets.scaling import Scaling
from caafp_app.errors import DataError, SettingsError
from caafp_app.registry import DATASETS
from caafp_app.settings import DataSettings

FloatArray: TypeAlias = npt.NDArray[np.float32]
IntArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DataShape:
    """What a model has to fit; of recordings a window is ``(time, channels)``."""

    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ClientData:
    """The data of one client, ready to be trained on.

    `label` is the stable key of everything that is kept about it. Windows are float32
    ``[n, *input_shape]`` in recording order, classes int64 ``[n]`` in ``0..k-1``; the held-out part
    may be empty. `scaling` is None where both parts are as recorded. `train_time` says when each
    training window was recorded, float64 ``[n]`` (None: in the order of the rows).
    """

    label: str
    train_x: FloatArray
    train_y: IntArray
    test_x: FloatArray
    test_y: IntArray
    class_names: tuple[str, ...]
    scaling: Scaling | None = None
    train_time: npt.NDArray[np.float64] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one window."""
        return tuple(self.train_x.shape[1:])

    @property
    def examples(self) -> int:
        """Training windows: the client's weight in a mean over clients."""
        return len(self.train_y)


@dataclass(frozen=True, eq=False)
class Windows:
    """Labelled windows of a whole data set, or of one user.

    The windows of a user stand together, users ascending, and inside a user in recording order, so
    that one user is a slice. Another order, length or dtype is a ValueError: a fault of the
    source's code, not of the data.

    `x` is float32 ``[n, *input_shape]``, possibly mapped from a file and not to be written to; `y`
    int64 ``[n]``, classes ``0..k-1``; `user` int64 ``[n]``, ascending, the number that the data set
    gives the user. `user_names` are names of the users ``0..``, where the data set has any.
    """

    x: FloatArray
    y: IntArray
    user: IntArray
    class_names: tuple[str, ...]
    user_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.user):
            raise ValueError(
                f"x, y and user: expected one length, found {len(self.x)}, {len(self.y)}, "
                f"{len(self.user)}"
            )
        dtypes = [array.dtype.name for array in (self.x, self.y, self.user)]
        if dtypes != ["float32", "int64", "int64"]:
            raise ValueError(
                f"x, y and user: expected float32, int64 and int64, found {', '.join(dtypes)}"
            )
        if np.any(np.diff(self.user) < 0):
            raise ValueError("user: expected ascending numbers; build with Windows.grouped")

    @classmethod
    def grouped(
        cls,
        x: npt.NDArray[Any],
        y: npt.NDArray[Any],
        user: npt.NDArray[Any],
        class_names: tuple[str, ...],
        user_names: tuple[str, ...] = (),
    ) -> Self:
        """Make it of windows of any order of users, each user's in recording order."""
        if np.any(np.diff(user) < 0):
            order = np.argsort(user, kind="stable")
            x, y, user = x[order], y[order], user[order]
        return cls(
            np.asarray(x, np.float32),
            np.asarray(y, np.int64),
            np.asarray(user, np.int64),
            class_names,
            user_names,
        )

    @property
    def users(self) -> IntArray:
        """Numbers of the users, ascending, each once."""
        return np.unique(self.user)

    @property
    def shape(self) -> DataShape:
        """Shape of one window, and the classes."""
        return DataShape(tuple(self.x.shape[1:]), self.class_names)

    def of_user(self, user: int) -> Self:
        """Return the windows of one user: views, not copies."""
        start, stop = np.searchsorted(self.user, [user, user + 1])
        part = slice(int(start), int(stop))
        arrays = self.x[part], self.y[part], self.user[part]
        return type(self)(*arrays, self.class_names, self.user_names)

    def name_of(self, user: int) -> str:
        """Return the name of a user; empty where the data set knows a number alone."""
        return self.user_names[user] if 0 <= user < len(self.user_names) else ""


class DataSource(ABC):
    """Where windows come from: one subclass per data set, named in `caafp_app.registry`.

    A source keeps no state. `standardise` says what ``standardise=auto`` means here: ``none`` or
    ``client``; `known_shape`, what `shape` returns without any data; `form_known`, whether
    `population` needs none either.
    """

    standardise: ClassVar[str] = "none"
    known_shape: ClassVar[DataShape | None] = None
    form_known: ClassVar[bool] = False

    def shape(self, settings: DataSettings) -> DataShape:
        """Return what a model has to fit; override it where the settings tell."""
        return self.known_shape or self.windows(settings).shape

    def population(self, settings: DataSettings) -> int:
        """Return the number of users; SettingsError if there are none to count."""
        return len(self.windows(settings).users)

    @abstractmethod
    def windows(self, settings: DataSettings) -> Windows:
        """Return all windows of all users; DataError if they are not all there, or not sound."""

    def to_fetch(self, settings: DataSettings) -> str:
        """Say what `windows` would download; empty where all is on this machine."""
        return ""

    def client(self, settings: DataSettings, index: int) -> Windows:
        """Return the windows of the user at ``index`` in the ascending order of users.

        Law: ``client(s, k)`` equals ``windows(s).of_user(windows(s).users[k])``; a source that can
        make one user alone does so.
        """
        windows = self.windows(settings)
        users = windows.users
        if not 0 <= index < len(users):
            raise DataError(
                f"{settings.dataset}: expected a user between 0 and {len(users) - 1}, found {index}"
            )
        return windows.of_user(int(users[index]))

    def label(self, user: int) -> str:
        """Return the stable name of the user whom the data set gives this number."""
        return f"user-{user:02d}"


@cache
def source_of(name: str) -> DataSource:
    """Return the source of that name or path; each is made once."""
    found = DATASETS[name]
    if not isinstance(found, type) or not issubclass(found, DataSource):
        raise SettingsError(
            "dataset: expected a subclass of caafp_app.datasets.DataSource at "
            f"{name!r}, found {found!r}"
        )
    source: DataSource = found()
    return source
