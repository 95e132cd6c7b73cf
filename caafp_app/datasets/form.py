"""``dataset.toml``: what the numbers beside it mean, in the words of who recorded them.

Every line (docs/deploy.md has one of each) may be left out. The run may say classes, channels and
sampling rate as well, in settings of the same names; then they are compared, and classes and
channels are found by their names, so that devices may list them in another order and lack classes
that others have.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caafp_app.datasets.arrays import AnyArray
from caafp_app.datasets.base import DataShape, IntArray
from caafp_app.errors import DataError, reading
from caafp_app.registry import hint
from caafp_app.settings.text import decoded

FILE = "dataset.toml"
_KEYS = ("classes", "channels", "sampling-rate", "stride")
_RATE_TOLERANCE = 0.01


@dataclass(frozen=True)
class Form:
    """What is known of recordings besides their numbers; empty or 0 where nothing is."""

    classes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    sampling_rate: float = 0.0
    stride: int = 0


def read_form(path: Path) -> Form:
    """Read the ``dataset.toml`` that lies beside a file, or in a folder; empty if there is none.

    Raises DataError if it is not TOML, has another key, or a value that is none.
    """
    file = _place(path)
    if not file.is_file():
        return Form()
    with reading(f"TOML in {file}", DataError):
        values = tomllib.loads(decoded(file.read_bytes()))
    for key in values:
        if key not in _KEYS:
            raise DataError(f"{file}: expected {', '.join(_KEYS)}, found {key!r}{hint(key, _KEYS)}")
    return Form(
        _names(file, "classes", values.get("classes", [])),
        _names(file, "channels", values.get("channels", [])),
        float(_number(file, "sampling-rate", values.get("sampling-rate", 0.0), whole=False)),
        int(_number(file, "stride", values.get("stride", 0), whole=True)),
    )


def check_rate(path: Path, own: Form, run: Form) -> None:
    """Compare a device's sampling rate with the run's, where that says one; else DataError."""
    if abs(own.sampling_rate - run.sampling_rate) > _RATE_TOLERANCE * run.sampling_rate > 0:
        raise DataError(
            f"{_place(path)}: expected sampling-rate {run.sampling_rate:g}, as the run says, found "
            f"{own.sampling_rate or 'none'}; resample the recordings, or say their rate"
        )


def ordered_channels(x: AnyArray, own: Form, run: Form, path: Path) -> AnyArray:
    """Return windows ``[..., channels]`` with the channels that the run names, in its order.

    Raises DataError if there are not as many channels as the device names, or it does not name
    those of the run.
    """
    if own.channels and x.shape[-1:] != (len(own.channels),):
        raise DataError(
            f"{path}: expected {len(own.channels)} channels ({', '.join(own.channels)}, as "
            f"{FILE} says), found windows of shape {x.shape[1:]}"
        )
    missing = [name for name in run.channels if name not in own.channels]
    if missing:
        raise DataError(
            f"{_place(path)}: expected the channels {', '.join(run.channels)}, as the run says, "
            f"found {', '.join(own.channels) or 'none'}; name {', '.join(missing)}"
        )
    if not run.channels or run.channels == own.channels:
        return x
    return x[..., [own.channels.index(name) for name in run.channels]]


def run_classes(y: IntArray, names: tuple[str, ...], shape: DataShape, named: bool) -> IntArray:
    """Return class numbers ``y`` ``[n]`` into a device's `names` as those of the run.

    Where the run does not name its classes (`named`), numbers are numbers.
    """
    if not named or names == shape.class_names:
        return y
    place = {name: number for number, name in enumerate(shape.class_names)}
    return np.array([place[name] for name in names], np.int64)[y]


def class_names(path: Path, own: Form, shape: DataShape, named: bool) -> tuple[str, ...]:
    """Return the classes that a device's numbers stand for.

    Raises DataError if the device names a class that the run does not have, or the run has no names
    and the device not as many as it has classes.
    """
    if not own.classes:
        return shape.class_names
    where = _place(path)
    if named:
        unknown = [name for name in own.classes if name not in shape.class_names]
        if unknown:
            raise DataError(
                f"{where}: expected classes of {', '.join(shape.class_names)}, as the run says, "
                f"found {', '.join(unknown)}{hint(unknown[0], shape.class_names)}"
            )
    elif len(own.classes) != len(shape.class_names):
        raise DataError(
            f"{where}: expected {len(shape.class_names)} classes, as the run says, found "
            f"{len(own.classes)}; name all, also those that are not recorded here, or let the run "
            "name them (classes)"
        )
    return own.classes


def _place(path: Path) -> Path:
    return (path if path.is_dir() else path.parent) / FILE


def _names(file: Path, key: str, value: object) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or not all(isinstance(name, str) and name.strip() == name and name for name in value)
        or len(set(value)) != len(value)
    ):
        raise DataError(f"{file}: expected {key} to be a list of different names, found {value!r}")
    return tuple(value)


def _number(file: Path, key: str, value: object, *, whole: bool) -> int | float:
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value < 1e6:
        kind = "a whole number" if whole else "a number"
        raise DataError(f"{file}: expected {key} to be {kind} from 0 below 1e6, found {value!r}")
    return value
