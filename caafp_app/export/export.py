"""Exporting a cluster: write each format, read it back, compare, and measure."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import RunError, SettingsError
from caafp_app.export.formats import FORMATS, Predict
from caafp_app.export.trained import Trained, load_cluster, logits_of, windows_like
from caafp_app.registry import hint

COMPARED = 1000
"""Windows on which an exported network has to say what torch says."""
BATCH = 256
_REPEATS = 15


@dataclass(frozen=True)
class Exported:
    """One exported file, of `nbytes`, held against torch over `COMPARED` windows.

    Attributes
    ----------
    difference : float
        Largest difference of a logit from torch's.
    agreement : float
        Share of the windows that get the same class.
    one, batch : float
        Seconds for one window, and for `BATCH` of them; median.
    """

    format: str
    path: Path
    nbytes: int
    difference: float
    agreement: float
    one: float
    batch: float


def export_cluster(
    run: Path,
    number: int | None,
    formats: Sequence[str],
    folder: Path | None = None,
    level: float = 1.0,
) -> tuple[Trained, list[Exported]]:
    """Write a cluster's network in some formats, and hold each against torch's.

    Parameters
    ----------
    run : Path
        A run directory.
    number : int, optional
        The cluster; None: see `load_cluster`.
    formats : sequence of str
        Names in `FORMATS`.
    folder : Path, optional
        Where to; by default ``export`` in the run directory.
    level : float
        See `load_cluster`.

    Raises
    ------
    SettingsError
        A format is not known, or needs what is not installed.
    RunError
        The run has no such cluster, or as of `export_network`.
    """
    trained = load_cluster(run, number, level)
    return trained, export_network(trained, formats, run / "export" if folder is None else folder)


def export_network(trained: Trained, formats: Sequence[str], folder: Path) -> list[Exported]:
    """Write a network in some formats, and hold each against torch's.

    Raises SettingsError if a format is not known, or needs what is not installed; RunError if what
    was written does not compute the same: the file is then left to be looked at.
    """
    for name in formats:
        if name not in FORMATS:
            raise SettingsError(
                f"--format: expected one of {', '.join(FORMATS)}, found {name!r}"
                f"{hint(name, FORMATS)}"
            )
        FORMATS[name].require(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"--output: expected a folder that can be made, found {folder}: {error.strerror}"
        ) from error
    windows = windows_like(trained, COMPARED)
    truth = logits_of(trained.model, windows)
    made = []
    for name in formats:
        kind = FORMATS[name]
        path = folder / (trained.name + kind.suffix)
        kind.write(trained, path)
        predict = kind.load(trained, path)
        logits = predict(windows)
        difference = float(np.abs(logits - truth).max())
        # What float32 rounds off grows with the numbers that are added up.
        allowed = kind.tolerance * max(1.0, float(np.abs(truth).max()))
        if not difference <= allowed:  # NaN is more than any tolerance
            raise RunError(
                f"{path}: expected the logits of torch within {allowed:g} on {COMPARED} windows, "
                f"found a difference of {difference:g}"
            )
        agreement = float((logits.argmax(1) == truth.argmax(1)).mean())
        times = [median_seconds(predict, windows[:count]) for count in (1, BATCH)]
        made.append(Exported(name, path, path.stat().st_size, difference, agreement, *times))
    return made


def median_seconds(predict: Predict, windows: NDArray[np.float32]) -> float:
    """Return the median time of a call, after one that does not count."""
    predict(windows)
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        predict(windows)
        times.append(time.perf_counter() - began)
    return float(np.median(times))
