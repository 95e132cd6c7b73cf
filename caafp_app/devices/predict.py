"""Classes and probabilities of new windows, by the model that a device keeps."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caafp_app.datasets.base import DataShape, FloatArray
from caafp_app.datasets.folder import read_unlabelled
from caafp_app.datasets.form import Form
from caafp_app.datasets.scaling import Scaling
from caafp_app.devices.personal import Card, load_personal
from caafp_app.runs.files import write_atomic


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of some windows.

    Attributes
    ----------
    class_names : tuple of str
    probabilities : ndarray
        float64 ``[n, classes]``, each row of sum 1.
    """

    class_names: tuple[str, ...]
    probabilities: NDArray[np.float64]

    @property
    def classes(self) -> list[str]:
        """The likeliest class of each window."""
        return [self.class_names[k] for k in self.probabilities.argmax(axis=1)]

    def to_csv(self) -> str:
        """Return a table: window from 0, class, and the probability of each class."""
        stream = io.StringIO()
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["window", "class", *self.class_names])
        for number, row in enumerate(self.probabilities):
            name = self.class_names[int(row.argmax())]
            table.writerow([number, name, *(f"{value:.6f}" for value in row)])
        return stream.getvalue()

    def write_csv(self, path: Path) -> None:
        """Write the table to a file, whole or not at all.

        Raises
        ------
        RunError
            The file cannot be written.
        """
        write_atomic(path, self.to_csv().encode())


def predict(data: Path, folder: Path) -> Prediction:
    """Apply the personal model in a folder to windows that lie somewhere.

    Parameters
    ----------
    data : Path
        As ``data-path``; labels may be missing and are not read.
    folder : Path
        The device's ``state-dir``.

    Raises
    ------
    DataError
        There is no model, or no windows of the form that it takes.
    """
    arrays, card = load_personal(folder)
    shape = DataShape(card.input_shape, card.class_names)
    windows = read_unlabelled(data, shape, Form((), card.channels, card.sampling_rate))
    return Prediction(card.class_names, _probabilities(arrays, card, _scaled(windows, card)))


def _scaled(windows: FloatArray, card: Card) -> FloatArray:
    if not card.mean:
        return windows
    return Scaling(np.array(card.mean), np.array(card.deviation)).apply(windows)


def _probabilities(
    arrays: dict[str, NDArray[np.float32]], card: Card, windows: FloatArray
) -> NDArray[np.float64]:
    # Seconds on a small device, so not before the data is known to be sound.
    from caafp_app import training
    from caafp_app.models import build_model
    from caafp_app.models.resize import resize

    model = build_model(card.model, card.input_shape, len(card.class_names), seed=0)
    resize(model, arrays)  # some strategies cut whole filters
    training.load_arrays(model, arrays)
    return training.probabilities(model, windows)
