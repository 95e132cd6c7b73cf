"""WISDM activity prediction v1.1: 36 people, 6 activities, acceleration at 20 Hz in the pocket.

"Activity Recognition using Cell Phone Accelerometers", Kwapisz, Weiss, Moore, SensorKDD 2010. The
text is cut into windows of 200 samples (10 s), one every 100, per user and activity. A window may
span two recordings of the same activity, as it does for everyone who cuts the set in this way.
"""

import contextlib
import io
import logging
import tarfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from caafp_app.datasets.arrays import window_rows
from caafp_app.datasets.base import DataShape, DataSource, Windows
from caafp_app.datasets.cache import cached_windows, signature
from caafp_app.datasets.wisdm_text import ACTIVITIES, Samples, parse
from caafp_app.errors import DataError, SettingsError
from caafp_app.settings import DataSettings

TIME = 200
STRIDE = 100
CHANNELS = 3

_TEXT = "WISDM_ar_v1.1_raw.txt"
_MAX_BYTES = 512 * 2**20

logger = logging.getLogger(__name__)


class WisdmSource(DataSource):
    """The published text, from ``data-dir``: 36 users have a window."""

    standardise = "client"

    def shape(self, settings: DataSettings) -> DataShape:
        """Return ``(200, 3)`` and the six activities; nothing is read."""
        return DataShape((TIME, CHANNELS), ACTIVITIES)

    def windows(self, settings: DataSettings) -> Windows:
        """Return all windows; parsed once per machine, mapped from the cache afterwards."""
        if not settings.data_dir:
            raise SettingsError(
                "data-dir: dataset 'wisdm' needs the folder, .tar.gz or .txt of the published v1.1 "
                "set (www.cis.fordham.edu/wisdm/dataset.php), found nothing"
            )
        path = _find(Path(settings.data_dir).expanduser())
        return _load(path, signature([path]))


@lru_cache(maxsize=2)
def _load(path: Path, key: str) -> Windows:
    def build() -> Windows:
        with _open(path) as text:
            samples, report = parse(text, str(path))
        logger.warning("%s: %s", path.name, report.summary())
        return cut(samples, str(path))

    return cached_windows(f"wisdm-{key}", build)


def cut(samples: Samples, where: str) -> Windows:
    """Cut samples into windows of 200, one every 100, per user and activity.

    Windows are ``[n, 200, 3]`` in m/s^2; those of a user in the order in which they begin in the
    text. Raises DataError if no user did anything for 200 samples.
    """
    parts = []
    for user in np.unique(samples.user):
        for activity in range(len(ACTIVITIES)):
            rows = np.flatnonzero((samples.user == user) & (samples.activity == activity))
            if len(rows) >= TIME:
                parts.append((rows[window_rows(len(rows), TIME, STRIDE)], activity, user))
    if not parts:
        raise DataError(
            f"{where}: expected at least {TIME} samples of one user and activity, found none; "
            "the text is partial"
        )
    rows = np.concatenate([part[0] for part in parts])
    activities = np.concatenate([np.full(len(part), activity) for part, activity, _ in parts])
    users = np.concatenate([np.full(len(part), user) for part, _, user in parts])
    order = np.argsort(rows[:, 0], kind="stable")
    return Windows.grouped(samples.xyz[rows[order]], activities[order], users[order], ACTIVITIES)


def _find(place: Path) -> Path:
    """Return the text, or the tar archive that has it."""
    if place.is_file():
        return place
    for pattern in (_TEXT, f"*/{_TEXT}", "WISDM_ar*.tar.gz", "WISDM_ar*.tgz"):
        found = sorted(place.glob(pattern))
        if found:
            return found[0]
    raise DataError(
        f"data-dir {place}: expected {_TEXT}, or the .tar.gz that holds it, found "
        f"{'neither of them' if place.exists() else 'nothing'}"
    )


@contextlib.contextmanager
def _open(path: Path) -> Iterator[io.TextIOBase]:
    """Open the text, inside a tar archive without unpacking it to disk."""
    with contextlib.ExitStack() as stack:
        try:
            if tarfile.is_tarfile(path):
                archive = stack.enter_context(tarfile.open(path))
                found = [one for one in archive if one.isfile() and one.name.endswith(_TEXT)]
                file = archive.extractfile(found[0]) if found else None
                if file is None:
                    raise DataError(f"{path}: expected an archive with {_TEXT}, found none in it")
                size = found[0].size
            else:
                file, size = stack.enter_context(path.open("rb")), path.stat().st_size
            if size > _MAX_BYTES:
                raise DataError(
                    f"{path}: expected text of at most {_MAX_BYTES / 2**20:.0f} MiB, "
                    f"found {size / 2**20:.0f} MiB"
                )
            yield io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace")
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise DataError(f"{path}: expected a file that is whole, found {error}") from error
