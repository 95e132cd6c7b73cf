"""Data sets by name."""

from functools import cache

from caafp_app.datasets.base import DataSource
from caafp_app.errors import SettingsError
from caafp_app.registry import DATASETS


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
