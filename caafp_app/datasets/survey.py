"""A look at all data of a run before it starts: what there is, and what may be a mistake.

What a run refuses is an error here as well, in the same words. What it accepts and does badly with
is a note.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from caafp_app.datasets.base import IntArray, Windows, source_of
from caafp_app.datasets.partition import partitions
from caafp_app.datasets.resolve import data_shape, scaled_by_client
from caafp_app.datasets.split import Split, split_of
from caafp_app.errors import DataError
from caafp_app.settings import DataSettings

OTHER_UNIT = 6.0
"""A client whose values are so many times larger or smaller than the others' has another unit."""
SMALL, LARGE = 0.1, 50.0
"""Typical sizes of values between which networks train well; digits' pixels reach 16."""
_SAMPLE = 100
_LISTED = 5


class Survey(NamedTuple):
    """What the data of a run is: the shape of a window (None: not known yet), and in words.

    `facts` are one line for a person; `notes`, what is allowed and may be a mistake. `labels` are
    those of the clients in their order, where they are known; empty of who has nothing to train on.
    """

    shape: tuple[int, ...] | None
    classes: int
    facts: str
    notes: list[str]
    labels: tuple[str, ...] = ()


def survey(settings: DataSettings, clients: int) -> Survey:
    """Read the data of a run and describe it.

    Where users are not the clients, it is dealt out to so many `clients`. Raises DataError or
    SettingsError if the data cannot be read or divided, or leaves no client anything to train on,
    or to score.
    """
    shape = data_shape(settings)
    classes = len(shape.class_names)
    form = f"windows of {shape.input_shape}, {classes} class{'es' if classes != 1 else ''}"
    notes = about_shape(shape.input_shape)
    if classes < 2:
        notes.append(f"all windows are of class {shape.class_names[0]}: there is nothing to learn")
    source = source_of(settings.dataset)
    if settings.dataset == "synthetic" and settings.partition == "natural":
        # It is made as it is asked for, and has no flaws to look for.
        users = range(settings.synthetic_users)
        _check_scored(settings, (split_of(settings, source.client(settings, k).y) for k in users))
        return Survey(shape.input_shape, classes, form, notes, tuple(map(source.label, users)))
    windows = source.windows(settings)
    names, sizes, scales, spreads, splits = [], [], [], [], []
    untested, idle = [], []
    for name, rows, time in _clients(settings, windows, clients):
        train, held_out = split_of(settings, windows.y[rows], time)
        splits.append(Split(train, held_out))
        if not len(train):
            idle.append(name)
        elif not len(held_out):
            untested.append(name)
        names.append(name)
        sizes.append(len(rows))
        values = _sample(windows, rows)
        scales.append(np.sqrt(np.mean(values * values, axis=0)))
        spreads.append(np.ptp(values, axis=0))
    part = _check_scored(settings, splits)
    scale = np.array(scales)
    facts = (
        f"{len(windows.y)} {form}; {len(names)} clients with {min(sizes)} to {max(sizes)} windows "
        f"(median {int(np.median(sizes))}); typical size of a value by channel "
        + ", ".join(f"{value:.3g}" for value in np.median(scale, axis=0)[:12])
        + (", ..." if scale.shape[1] > 12 else "")
    )
    if scaled_by_client(settings):
        facts += "; each client's are then scaled to mean 0 and deviation 1"
    else:
        notes += about_size(np.median(scale, axis=0)) + about_units(names, scale)
    notes += about_still(np.array(spreads))
    for found, what in (
        (untested, f"no {part} windows: they train and are not scored"),
        (idle, "no windows to train on: they take no part"),
    ):
        if found:
            notes.append(f"{len(found)} of {len(names)} clients have {what}: {_some(found)}")
    counts = np.bincount(windows.y, minlength=classes)
    absent = [shape.class_names[k] for k in np.flatnonzero(counts == 0)]
    if absent:
        notes.append(f"no client has windows of {_some(absent)}")
    out = set(idle)
    labels = tuple("" if name in out else name for name in names)
    return Survey(shape.input_shape, classes, facts, notes, labels)


def _check_scored(settings: DataSettings, splits: Iterable[Split]) -> str:
    """Look for a client with windows of both parts; return the name of the second."""
    part, trains = "validation" if settings.validation_fraction else "test", False
    for train, held_out in splits:
        if len(train) and len(held_out):
            return part
        trains = trains or len(train) > 0
    if not trains:
        raise DataError(
            f"dataset {settings.dataset}: expected windows to train on, found none left of any "
            f"client after window-gap {settings.window_gap} and validation-fraction "
            f"{settings.validation_fraction:g}"
        )
    raise DataError(
        f"dataset {settings.dataset}: expected {part} windows to score models on, found none "
        f"of any client; six windows of a class in one client are enough"
    )


def unread(settings: DataSettings, away: str) -> Survey:
    """Say what is known without the data, which a run will download: see `DataSource.to_fetch`."""
    note = f"the data was not looked at: the run will download {away}, and check it then"
    if not source_of(settings.dataset).form_known:
        return Survey(None, 0, "", [note])
    shape = data_shape(settings)
    form = f"windows of {shape.input_shape}, {len(shape.class_names)} classes"
    return Survey(shape.input_shape, len(shape.class_names), form, [note])


def about_shape(shape: tuple[int, ...]) -> list[str]:
    """Return a note where the axes of a window seem to be in another order."""
    if len(shape) == 2 and shape[0] < shape[1]:
        return [
            f"a window has {shape[0]} time steps of {shape[1]} channels. Expected [windows, time, "
            f"channels]: if these are {shape[1]} steps of {shape[0]} channels, swap the last two "
            "axes, as X.transpose(0, 2, 1)"
        ]
    if len(shape) == 3 and shape[0] <= 4 < shape[2]:
        return [
            f"a window has shape {shape}. Expected [windows, rows, columns, channels]: if the "
            f"{shape[0]} are channels, move them last, as X.transpose(0, 2, 3, 1)"
        ]
    return []


def about_size(scale: npt.NDArray[np.float64]) -> list[str]:
    """Return a note where values are so large or small that a network learns little from them.

    The scale is the typical size of a value by channel, float64 ``[channels]``.
    """
    largest = float(scale.max(initial=0.0))
    if not largest or SMALL <= largest <= LARGE:
        return []
    return [
        f"values are around {largest:.3g}, but networks learn best from values near 1; use another "
        "unit, or set standardise=client"
    ]


def about_units(names: list[str], scale: npt.NDArray[np.float64]) -> list[str]:
    """Return a note for each client whose values are of another size than those of the others.

    The scale is the typical size of a value, float64 ``[clients, channels]``.
    """
    if len(names) < 2:
        return []
    usual = np.median(scale, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(usual > 0, scale / usual, 1.0)
    notes = []
    for name, row, size in zip(names, ratio, scale, strict=True):
        odd = np.flatnonzero((row > OTHER_UNIT) | (row < 1 / OTHER_UNIT))
        # One quiet channel is how somebody holds a phone; half of them are another unit.
        if 2 * len(odd) > len(row) or (row > OTHER_UNIT**2).any():
            worst = int(np.argmax(np.abs(np.log(np.maximum(row, 1e-12)))))
            notes.append(
                f"{name}: values of channel {worst} are around {size[worst]:.3g}, those of the "
                f"other clients around {usual[worst]:.3g}: is this another unit? Convert it, or "
                "use standardise=client"
            )
    if len(notes) > _LISTED:
        return [*notes[:_LISTED], f"the same of {len(notes) - _LISTED} more clients"]
    return notes


def about_still(spread: npt.NDArray[np.float64]) -> list[str]:
    """Return a note about channels that have one value alone in each client's windows.

    The spread is the largest value less the smallest, float64 ``[clients, channels]``.
    """
    still = np.flatnonzero((spread == 0.0).all(axis=0))
    if not len(still):
        return []
    which = (
        "no channel"
        if len(still) == spread.shape[1]
        else f"no value of channel {_some(list(still))}"
    )
    return [f"{which} changes within any client's windows: is the sensor on?"]


def _clients(
    settings: DataSettings, windows: Windows, clients: int
) -> Iterator[tuple[str, IntArray, npt.NDArray[np.float64] | None]]:
    """Yield each client's name, its rows of the windows, and their time."""
    if settings.partition != "natural":
        for index, part in enumerate(partitions(settings, clients)):
            yield f"part-{index:04d}", part.rows, part.time
        return
    source = source_of(settings.dataset)
    starts = np.searchsorted(windows.user, windows.users)
    ends = np.append(starts[1:], len(windows.user))
    for user, start, end in zip(windows.users, starts, ends, strict=True):
        name = windows.name_of(int(user)) or source.label(int(user))
        yield name, np.arange(start, end), None


def _sample(windows: Windows, rows: IntArray) -> npt.NDArray[np.float64]:
    """Return the values of some windows, far apart [values, channels]."""
    values = np.asarray(windows.x[rows[:: max(1, len(rows) // _SAMPLE)]], np.float64)
    return values.reshape(-1, values.shape[-1])


def _some(names: Sequence[object]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(str, names[:_LISTED])) + more
