"""Anybody's windows in one file, for a simulation: one user is one client.

The file, as ``numpy.savez`` writes it, has ``X`` ``[n, time, channels]``, each user's in the order
of recording; ``y`` and ``user`` ``[n]``, whole numbers or strings; and maybe ``label_names`` of the
classes: ``y`` is then 0..k-1, or these names.
"""

from functools import lru_cache
from pathlib import Path

from caafp_app.datasets.arrays import as_names, as_windows, labels_of, read_npz, users_of
from caafp_app.datasets.base import DataSource, Windows
from caafp_app.datasets.cache import signature
from caafp_app.errors import DataError
from caafp_app.settings import DataSettings


class NpzSource(DataSource):
    """The file that ``data-dir`` names."""

    def windows(self, settings: DataSettings) -> Windows:
        """Return what the file holds; it is read once per process."""
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
    names = as_names(arrays["label_names"], where) if "label_names" in arrays else None
    classes, class_names = labels_of(arrays["y"], names, len(x), where)
    user, users = users_of(arrays["user"], len(x), where)
    return Windows.grouped(x, classes, user, class_names, users)
