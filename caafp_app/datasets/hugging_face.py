"""A data set of the Hugging Face library: on this disk, or on the hub by its name.

``data-dir`` is the folder that ``Dataset.save_to_disk`` wrote, or a name such as ``ylecun/mnist``,
which flwr-datasets downloads. Columns are found by what they are, the only ``ClassLabel`` or the
only one of images or arrays, or else by a usual name. Without a column of users every window is of
one user, and ``partition`` deals the windows out. Of several splits the training split is taken:
each client holds out its own test part.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caafp_app.datasets.arrays import as_windows, labels_of, users_of
from caafp_app.datasets.base import DataSource, FloatArray, Windows
from caafp_app.errors import DataError, SettingsError
from caafp_app.settings import DataSettings

if TYPE_CHECKING:
    from datasets import Dataset

LABELS = ("label", "labels", "y", "class", "activity", "target")
WINDOWS = ("x", "X", "window", "windows", "features", "data", "signal", "image", "img")
USERS = ("user", "user_id", "subject", "speaker_id", "writer_id", "client", "client_id")
# A list or an array, of whatever length; the library has a class for each.
_ARRAYS = ("List", "LargeList", "Sequence", "Array2D", "Array3D", "Image")
_TRAIN = "train"
_GREY = 255.0


class HuggingFaceSource(DataSource):
    """The data set that ``data-dir`` names."""

    def population(self, settings: DataSettings) -> int:
        """Return the number of users; SettingsError if the data set has no column of them."""
        windows = self.windows(settings)
        if not windows.user_names and len(windows.users) == 1:
            raise SettingsError(
                f"partition: {settings.data_dir} has no column of users ({', '.join(USERS)}); "
                "expected dirichlet, shards or iid, found 'natural'"
            )
        return super().population(settings)

    def to_fetch(self, settings: DataSettings) -> str:
        """Name the data set on the hub; what the hub's own cache holds of it is not looked at."""
        place = Path(settings.data_dir).expanduser()
        if not settings.data_dir or place.is_dir() or place.is_absolute():
            return ""
        return f"{settings.data_dir!r} from the Hugging Face hub"

    def windows(self, settings: DataSettings) -> Windows:
        """Return all windows; they are read once per process."""
        if not settings.data_dir:
            raise SettingsError(
                "data-dir: dataset 'hf' needs the folder of a saved data set, or a name on the "
                "Hugging Face hub, found nothing"
            )
        return _load(settings.data_dir)


@lru_cache(maxsize=2)
def _load(place: str) -> Windows:
    data = _opened(place)
    labels = [name for name, kind in data.features.items() if hasattr(kind, "names")]
    y_name = _column("labels", data, labels, LABELS, place)
    arrays = [name for name, kind in data.features.items() if type(kind).__name__ in _ARRAYS]
    x_name = _column("windows", data, arrays, WINDOWS, place)
    user_name = next((name for name in USERS if name in data.column_names), None)
    x = as_windows(_stacked(data[x_name], place), f"{place}, column {x_name}")
    names = getattr(data.features[y_name], "names", None)
    y = np.asarray(data[y_name])
    classes, class_names = labels_of(y, tuple(names) if names else None, len(x), place)
    if user_name is None:
        return Windows.grouped(x, classes, np.zeros(len(x)), class_names)
    user, users = users_of(np.asarray(data[user_name]), len(x), place)
    return Windows.grouped(x, classes, user, class_names, users)


def _opened(place: str) -> "Dataset":
    try:
        import datasets
    except ImportError as error:
        raise SettingsError(
            "dataset 'hf': expected flwr-datasets, found that it is not installed; install the "
            "extra ('pip install caafp-app[simulation]')"
        ) from error
    folder = Path(place).expanduser()
    if folder.is_absolute() and not folder.is_dir():
        raise DataError(f"dataset hf: expected a folder at {folder}, found none")
    try:
        if not folder.is_dir():
            from flwr_datasets import FederatedDataset

            return FederatedDataset(dataset=place, partitioners={}).load_split(_TRAIN)
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # the library's own, of many kinds
        raise DataError(
            f"dataset hf: expected a data set that Dataset.save_to_disk wrote at {place}, or its "
            f"name on the hub, found: {error}; without network, save the data set elsewhere "
            "(Dataset.save_to_disk) and set data-dir to that folder"
        ) from error
    if isinstance(found, datasets.DatasetDict):
        if _TRAIN not in found:
            raise DataError(f"{place}: expected a split {_TRAIN!r}, found {', '.join(found)}")
        return found[_TRAIN]
    return found


def _column(
    what: str, data: "Dataset", fitting: list[str], names: Iterable[str], place: str
) -> str:
    """Return the only column of the kind, or the one of a usual name."""
    if len(fitting) == 1:
        return fitting[0]
    for name in names:
        if name in data.column_names:
            return name
    raise DataError(
        f"{place}: expected a column of {what} named {', '.join(names)}, found "
        f"{', '.join(data.column_names)}; rename it (Dataset.rename_column)"
    )


def _stacked(column: Iterable[Any], place: str) -> FloatArray:
    """Return windows as one array; grey values and colours are scaled to 0..1."""
    windows = [np.asarray(window) for window in column]
    shapes = {window.shape for window in windows}
    if len(shapes) != 1:
        raise DataError(
            f"{place}: expected windows of one shape, found {len(shapes)} shapes, as "
            f"{', '.join(map(str, sorted(shapes)[:3]))}"
        )
    x = np.stack(windows)
    if x.dtype == np.uint8:
        x = x / np.float32(_GREY)
        x = x[..., None] if x.ndim == 3 else x
    return x
