"""Classes and probabilities of new windows, by the model that a device keeps."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.datasets.base import ClientData, DataShape, FloatArray
from caafp_app.datasets.folder import read_unlabelled
from caafp_app.datasets.form import Form
from caafp_app.datasets.scaling import Scaling
from caafp_app.devices.personal import Card, load_personal


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of windows: probabilities float64 ``[n, classes]``, each row of sum 1."""

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


def predict(data: Path, folder: Path) -> Prediction:
    """Apply the personal model in `folder` (see `kept.find_kept`) to windows that lie somewhere.

    Labels in `data` are not read. Raises DataError if there is no model, or no windows of its form.
    """
    arrays, card = load_personal(folder)
    shape = DataShape(card.input_shape, card.class_names)
    windows = read_unlabelled(data, shape, Form((), card.channels, card.sampling_rate))
    return Prediction(card.class_names, probabilities_by(arrays, card, _scaled(windows, card)))


def held_out_accuracy(
    arrays: Mapping[str, NDArray[np.float32]], card: Card, data: ClientData
) -> float | None:
    """Return a kept model's accuracy on windows held out today; None where it takes others."""
    if not len(data.test_y) or (card.input_shape, card.class_names) != (
        data.input_shape,
        data.class_names,
    ):
        return None
    windows = data.test_x
    if data.scaling is not None:  # back to what was recorded: each model scales by its own card
        windows = (windows * data.scaling.deviation + data.scaling.mean).astype(np.float32)
    found = probabilities_by(dict(arrays), card, _scaled(windows, card)).argmax(axis=1)
    return float((found == data.test_y).mean())


def _scaled(windows: FloatArray, card: Card) -> FloatArray:
    if not card.mean:
        return windows
    return Scaling(np.array(card.mean), np.array(card.deviation)).apply(windows)


def probabilities_by(
    arrays: dict[str, NDArray[Any]], card: Card, windows: FloatArray
) -> NDArray[np.float64]:
    """Return what a model gives each class, float64 ``[n, classes]``, of windows as it is fed."""
    # Seconds on a small device, so not before the data is known to be sound.
    from caafp_app import training
    from caafp_app.models import build_model
    from caafp_app.models.resize import resize

    model = build_model(card.model, card.input_shape, len(card.class_names), seed=0)
    resize(model, arrays)  # some strategies cut whole filters
    training.load_arrays(model, arrays)
    return training.probabilities(model, windows)
