"""What the clusters' models take for what: a confusion matrix, made after a run.

With ``share-class-counts=true`` clients have told it. Otherwise it is computed again, in a
simulation, from the models that the run left.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caafp_app.datasets.resolve import load_client
from caafp_app.errors import RunError, reading
from caafp_app.export.trained import load_cluster
from caafp_app.runs.reading import read_run
from caafp_app.settings import Settings
from caafp_app.training import probabilities

Confusion = tuple[tuple[str, ...], NDArray[np.int64]]


def confusion_of(run: Path) -> Confusion:
    """Count what each cluster's model says of its clients' held-out windows.

    Returns the names of the classes, and windows by their true class (rows) and the predicted one
    (columns), int64 ``[classes, classes]``, over all clients. Raises RunError if the run has no
    end, or its data is on devices that told no counts; DataError if its data is not here any more.
    """
    files = read_run(run)
    told = files.summary.get("classes", {})
    if "cluster" in told:
        with reading(f"counts of classes in {run / 'summary.json'}", RunError):
            return tuple(told["names"]), np.array(told["cluster"]["confusion"], np.int64)
    settings = Settings.from_run_config(files.settings)
    if settings.data.dataset == "folder" or not files.clients:
        found = "data on devices" if settings.data.dataset == "folder" else "a run without an end"
        raise RunError(f"{run}: expected a simulation that has ended, found {found}")
    cluster_of = {client.label: client.cluster for client in files.clients}
    trained = {number: load_cluster(run, number) for number in set(cluster_of.values())}
    names = next(iter(trained.values())).class_names
    counts = np.zeros((len(names), len(names)), np.int64)
    seats = len(cluster_of)
    for seat in range(seats):
        data = load_client(settings.data, {"partition-id": seat, "num-partitions": seats})
        if data.label in cluster_of and len(data.test_y):
            model = trained[cluster_of[data.label]].model
            np.add.at(counts, (data.test_y, probabilities(model, data.test_x).argmax(1)), 1)
    return names, counts
