"""Anybody's windows in one file, for a simulation: one user is one client.

The file, as ``numpy.savez(path, X=..., y=..., user=...)`` writes it, named by ``data-dir``:

============ ========================= ==========================================================
X            ``[n, time, channels]``   windows, each user's in the order of recording; any numbers
y            ``[n]``                   labels, whole numbers
user         ``[n]``                   whose window it is, whole numbers
label_names  ``[k]``, may be left out  names of the labels, which then have to be 0..k-1
============ ========================= ==========================================================
"""

from functools import lru_cache
from pathlib import Path

from caafp_app.datasets.arrays import as_classes, as_names, as_numbers, as_windows, read_npz
from caafp_app.datasets.base import DataShape, DataSource, Windows
from caafp_app.datasets.cache import signature
from caafp_app.errors import DataError, SettingsError
from caafp_app.settings import DataSettings


class NpzSource(DataSource):
    """The file that ``data-dir`` names."""

    def shape(self, settings: DataSettings) -> DataShape:
        """Return the shape of the windows in the file."""
        return self.windows(settings).shape

    def population(self, settings: DataSettings) -> int:
        """Return the number of users in the file."""
        return len(self.windows(settings).users)

    def windows(self, settings: DataSettings) -> Windows:
        """Return what the file holds; it is read once per process."""
        if not settings.data_dir:
            raise SettingsError(
                "data-dir: dataset 'npz' needs the path of the .npz file with X, y and user, found "
                "nothing"
            )
        path = Path(settings.data_dir).expanduser()
        if not path.is_file():
            raise DataError(
                f"dataset npz: expected the file {path} (data-dir), found "
                f"{'a folder' if path.is_dir() else 'nothing'}; data-dir has to name the .npz file "
                "itself"
            )
        return _load(path, signature([path]))


@lru_cache(maxsize=2)
def _load(path: Path, _signature: str) -> Windows:
    """Read and check the file; the signature makes a changed file a different one."""
    arrays = read_npz(path, ("X", "y", "user"), ("label_names",))
    where = str(path)
    x = as_windows(arrays["X"], where)
    labels = as_numbers(arrays["y"], "y", len(x), where)
    user = as_numbers(arrays["user"], "user", len(x), where)
    names = as_names(arrays["label_names"], where) if "label_names" in arrays else None
    classes, class_names = as_classes(labels, names, where)
    return Windows.grouped(x, classes, user, class_names)
