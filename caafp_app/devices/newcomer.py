"""Predictions on a device that took no part in a run, by the models of its run directory.

It has no labels, so it is given the general model, the mean of the clusters' by their members'
examples, or a cluster's that is ahead of it by what it says of the windows themselves.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.clustering.assign import GENERAL, informed
from caafp_app.datasets.folder import read_unlabelled
from caafp_app.datasets.registry import source_of
from caafp_app.datasets.resolve import form_on_device
from caafp_app.datasets.scaling import Scaling
from caafp_app.devices.personal import Card
from caafp_app.devices.predict import Prediction, probabilities_by
from caafp_app.errors import RunError, reading
from caafp_app.runs.reading import read_run
from caafp_app.runs.tensors import read_tensors
from caafp_app.settings import AUTO, Settings


def predict_as_newcomer(data: Path, run: Path) -> tuple[Prediction, str]:
    """Apply the models of a run to windows that lie somewhere.

    Parameters
    ----------
    data : Path
        As ``data-path``; labels may be missing and are not read.
    run : Path
        A run directory, or a copy of its ``settings.json``, ``clusters.json`` and ``models``.

    Returns
    -------
    Prediction
    str
        Which model it is by.

    Raises
    ------
    RunError, SettingsError
        It is no run directory, or has no models yet.
    DataError
        There are no windows of the form that the models take.
    """
    files = read_run(run)
    settings = Settings.from_run_config(files.settings)
    shape, form = form_on_device(settings.data)
    windows = read_unlabelled(data, shape, form)
    told = settings.data.standardise
    treatment = source_of(settings.data.dataset).standardise if told == AUTO else told
    if treatment == "client" and len(windows):
        windows = Scaling.of(windows).apply(windows)
    card = Card("", settings.model.model, shape.input_shape, shape.class_names)
    found = {
        k: probabilities_by(model, card, windows)
        for k, model in _models(run, files.clusters).items()
    }
    chosen = informed({k: _information(one) for k, one in found.items()})
    name = "the general model" if chosen == GENERAL else f"the model of cluster {chosen}"
    return Prediction(card.class_names, found[chosen]), name


def _models(run: Path, found: Mapping[str, Any]) -> dict[int, dict[str, NDArray[Any]]]:
    """Return the general model, and the clusters' where there are several."""
    with reading(run / "clusters.json", RunError):
        clusters = found["clusters"]
        weights = {int(number): max(int(one["examples"]), 1) for number, one in clusters.items()}
    models = {n: read_tensors(run / "models" / f"cluster-{n}.safetensors")[0] for n in weights}
    total, first = sum(weights.values()), next(iter(models.values()))
    general = {
        name: np.sum([weights[n] / total * models[n][name] for n in models], axis=0, dtype=dtype)
        if (dtype := array.dtype).kind == "f"
        else array
        for name, array in first.items()
    }
    return {GENERAL: general, **(models if len(models) > 1 else {})}


def _information(probabilities: NDArray[np.float64]) -> float:
    def entropy(some: NDArray[np.float64]) -> float:
        return float(-(some * np.log(np.where(some > 0, some, 1.0))).sum(axis=-1).mean())

    return entropy(probabilities.mean(axis=0)) - entropy(probabilities)
