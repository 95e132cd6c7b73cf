"""WISDM activity prediction v1.1: 36 people, 6 activities, acceleration at 20 Hz in the pocket.

"Activity Recognition using Cell Phone Accelerometers", Kwapisz, Weiss, Moore, SensorKDD 2010. The
text is cut into windows of 200 samples (10 s), one every 100, per user and activity. A window may
span two recordings of the same activity, as it does for everyone who cuts the set in this way.

A sound record is ``user,activity,timestamp,x,y,z;`` on a line of its own. In the published file
some lines hold two records, some are empty, some records end in ``,;`` or in nothing, some lack a
field, and some have a timestamp of 0, which is a phone that was not recording.
"""

import contextlib
import io
import logging
import math
import tarfile
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from caafp_app.datasets.arrays import window_rows
from caafp_app.datasets.base import DataShape, DataSource, FloatArray, IntArray, Windows
from caafp_app.datasets.cache import cached_windows, signature
from caafp_app.errors import DataError, SettingsError
from caafp_app.settings import DataSettings

ACTIVITIES = ("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")
USERS = 36
TIME = 200
STRIDE = 100
CHANNELS = 3

_CLASS_OF = {name: number for number, name in enumerate(ACTIVITIES)}
_FIELDS = 6
_TEXT = "WISDM_ar_v1.1_raw.txt"
_MAX_BYTES = 512 * 2**20

logger = logging.getLogger(__name__)


class WisdmSource(DataSource):
    """The published text, from ``data-dir``: 36 users have a window."""

    standardise = "client"
    known_shape = DataShape((TIME, CHANNELS), ACTIVITIES)

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


class ParseReport(NamedTuple):
    """What became of the records of the text: how many are used, and dropped for which reason.

    Lines that are `run_together` have more than one record; these are taken apart, not dropped.
    """

    kept: int
    run_together: int
    dropped: Mapping[str, int]

    def summary(self) -> str:
        """Return one sentence."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items()) or "none"
        return (
            f"{self.kept} records kept, {sum(self.dropped.values())} dropped ({reasons}), "
            f"{self.run_together} lines of several records taken apart"
        )


class Samples(NamedTuple):
    """The usable records in the order of the text: user 1..36, activity, xyz in m/s^2."""

    user: IntArray
    activity: IntArray
    xyz: FloatArray


def parse(lines: Iterable[str], where: str) -> tuple[Samples, ParseReport]:
    """Read the lines of the text.

    Raises DataError if not a single record can be used: it is another file, named ``where``.
    """
    users, activities, values = array("q"), array("q"), array("f")
    run_together = 0
    dropped: Counter[str] = Counter()
    for line in lines:
        records = [record for part in line.split(";") if (record := part.strip(" \t\r\n,"))]
        run_together += len(records) > 1
        for record in records:
            parsed = _parse_record(record)
            if isinstance(parsed, str):
                dropped[parsed] += 1
                continue
            user, activity, xyz = parsed
            users.append(user)
            activities.append(activity)
            values.extend(xyz)
    report = ParseReport(len(users), run_together, dict(sorted(dropped.items())))
    if not users:
        raise DataError(
            f"{where}: expected records user,activity,timestamp,x,y,z; found none: "
            f"{report.summary()}"
        )
    samples = Samples(
        np.array(users, np.int64),
        np.array(activities, np.int64),
        np.array(values, np.float32).reshape(-1, 3),
    )
    return samples, report


def _parse_record(record: str) -> tuple[int, int, tuple[float, float, float]] | str:
    """Return user, activity and acceleration, or the reason why the record is dropped."""
    fields = [part.strip() for part in record.split(",")]
    if len(fields) > _FIELDS:
        return "with too many fields"
    if len(fields) < _FIELDS or not all(fields):
        return "with a missing field"
    try:
        user, timestamp = int(fields[0]), float(fields[2])
        x, y, z = float(fields[3]), float(fields[4]), float(fields[5])
    except ValueError:
        return "with an unreadable number"
    if not all(map(math.isfinite, (x, y, z))):
        return "with an unreadable number"
    if fields[1] not in _CLASS_OF:
        return "of an unknown activity"
    if not 1 <= user <= USERS:
        return f"of a user outside 1..{USERS}"
    if timestamp == 0:
        return "with timestamp 0"
    return user, _CLASS_OF[fields[1]], (x, y, z)


def cut(samples: Samples, where: str) -> Windows:
    """Cut samples into windows of 200, one every 100, per user and activity.

    Windows are ``[n, 200, 3]`` in m/s^2; those of a user in the order in which they begin in the
    text. Raises DataError if no user did anything for 200 samples.
    """
    parts = []
    for user in np.unique(samples.user):
        for activity in range(len(ACTIVITIES)):
            of_both = np.flatnonzero((samples.user == user) & (samples.activity == activity))
            parts.append(of_both[window_rows(len(of_both), TIME, STRIDE)])
    rows = np.concatenate(parts)
    if not len(rows):
        raise DataError(
            f"{where}: expected at least {TIME} samples of one user and activity, found none; "
            "the text is partial"
        )
    rows = rows[np.argsort(rows[:, 0])]
    activities, users = samples.activity[rows[:, 0]], samples.user[rows[:, 0]]
    return Windows.grouped(samples.xyz[rows], activities, users, ACTIVITIES)


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
