"""Names of the data sets, as the setting ``dataset`` has them."""

from caafp_app.datasets.base import DataSource
from caafp_app.datasets.digits import DigitsSource
from caafp_app.datasets.folder import FolderSource
from caafp_app.datasets.hugging_face import HuggingFaceSource
from caafp_app.datasets.npz import NpzSource
from caafp_app.datasets.synthetic import SyntheticSource
from caafp_app.datasets.uci_har import UciHarSource
from caafp_app.datasets.wisdm import WisdmSource
from caafp_app.errors import SettingsError
from caafp_app.settings import hint

SOURCES: dict[str, DataSource] = {
    source.name: source
    for source in (
        SyntheticSource(),
        DigitsSource(),
        UciHarSource(),
        WisdmSource(),
        NpzSource(),
        FolderSource(),
        HuggingFaceSource(),
    )
}


def source_of(name: str) -> DataSource:
    """Return the source of that name.

    Raises
    ------
    SettingsError
        There is none; the nearest known name is named.
    """
    if name not in SOURCES:
        raise SettingsError(
            f"dataset: expected one of {', '.join(SOURCES)}, found {name!r}{hint(name, SOURCES)}"
        )
    return SOURCES[name]
