"""Predictions on a device that took no part in a run, by the models of its run directory.

Without labels, it goes by what a model says of the windows themselves: a cluster's that is ahead,
or the mean of the clusters' by their members' examples.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.datasets.base import source_of
from caafp_app.datasets.folder import read_unlabelled
from caafp_app.datasets.resolve import form_on_device
from caafp_app.datasets.scaling import Scaling
from caafp_app.devices.personal import Card
from caafp_app.devices.predict import Prediction, probabilities_by
from caafp_app.errors import RunError, reading
from caafp_app.protocol.unlabelled import GENERAL, information, informed, said_of
from caafp_app.runs.reading import read_run
from caafp_app.runs.tensors import read_tensors
from caafp_app.settings import AUTO, Settings


def predict_as_newcomer(data: Path, run: Path) -> tuple[Prediction, str]:
    """Apply the models of a run to windows that lie somewhere.

    Returns the prediction and the name of the model that made it.

    Of `run` only ``settings.json``, ``clusters.json`` and ``models`` are needed. Labels in `data`
    are not read. Raises RunError or SettingsError for a run without models, DataError for windows
    of another form than they take.
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
    chosen = informed({k: information(said_of(one)) for k, one in found.items()})
    name = "the general model" if chosen == GENERAL else f"the model of cluster {chosen}"
    return Prediction(card.class_names, found[chosen]), name


def _models(run: Path, found: Mapping[str, Any]) -> dict[int, dict[str, NDArray[Any]]]:
    with reading(run / "clusters.json", RunError):
        clusters = found["clusters"]
        weights = {int(number): max(int(one["examples"]), 1) for number, one in clusters.items()}
    if not weights:
        raise RunError(f"expected a cluster in {run / 'clusters.json'}, found none to predict by")
    models = {n: read_tensors(run / "models" / f"cluster-{n}.safetensors")[0] for n in weights}
    total, first = sum(weights.values()), next(iter(models.values()))
    with reading(f"models of one network in {run / 'models'}", RunError):
        general = {
            name: np.sum(
                [weights[n] / total * models[n][name] for n in models], axis=0, dtype=dtype
            )
            if (dtype := array.dtype).kind == "f"
            else array
            for name, array in first.items()
        }
    if any(np.isnan(array).any() for array in general.values()):
        raise RunError(f"expected numbers in {run / 'models'}, found NaN: the training diverged")
    return {GENERAL: general, **(models if len(models) > 1 else {})}
