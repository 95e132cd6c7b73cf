"""The raw text of WISDM v1.1, flaws and all: what of it can be used, and a count of the rest.

A sound record is ``user,activity,timestamp,x,y,z;`` on a line of its own. In the published file
some lines hold two records, some are empty, some records end in ``,;`` or in nothing, some lack a
field, and some have a timestamp of 0, which is a phone that was not recording.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from caafp_app.datasets.base import FloatArray, IntArray
from caafp_app.errors import DataError

ACTIVITIES = ("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")
USERS = 36

_CLASS_OF = {name: number for number, name in enumerate(ACTIVITIES)}
_FIELDS = 6


@dataclass(frozen=True)
class ParseReport:
    """What became of the records of the text: how many are used, and dropped for which reason.

    Lines that are `run_together` have more than one record; these are taken apart, not dropped.
    """

    kept: int
    run_together: int
    dropped: Mapping[str, int] = field(default_factory=dict)

    def summary(self) -> str:
        """Return one sentence."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items()) or "none"
        return (
            f"{self.kept} records kept, {sum(self.dropped.values())} dropped ({reasons}), "
            f"{self.run_together} lines of several records taken apart"
        )


@dataclass(frozen=True, eq=False)
class Samples:
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
