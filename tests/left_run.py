"""Run directories as a run leaves them, without a run: for what reads them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from caafp_app.pruning.schedule import build_plan
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.ledger import Ledger
from caafp_app.runs.observer import DirectoryObserver
from caafp_app.runs.records import ClientRecord, ClusterReport, RoundRecord, RunReport
from caafp_app.settings import Scalar, Settings

MASKS = {0: np.array([0b00001111], dtype=np.uint8), 1: np.array([0b00111100], dtype=np.uint8)}


def leave_run(
    path: Path,
    accuracies: Sequence[float] = (0.5, 0.75, 1.0, 0.25),
    settings: Mapping[str, Scalar] | None = None,
    *,
    finished: bool = True,
    clustered: bool = True,
    evaluated: bool = False,
    labels: Sequence[str] = (),
) -> Path:
    """Write the folder of a run of six rounds whose clients have these personal accuracies.

    The cluster models are 0.1 worse; the first half of the clients is in cluster 0.
    """
    path.mkdir(parents=True)
    config = Settings.from_run_config(dict(settings or {}))
    observer = DirectoryObserver(RunDirectory(path), config.to_dict())
    plan = build_plan(2, 2, 2, every=2, initial=0.0, final=0.5, kind="linear")
    observer.on_plan(plan, {"model": "9 parameters"})
    names = list(labels) or [f"user-{i:02d}" for i in range(len(accuracies))]
    half = len(names) // 2
    cluster_of = {name: int(i >= half) if clustered else 0 for i, name in enumerate(names)}
    for step in plan:
        dense = not step.mask_update
        clusters = [0, 1] if clustered and step.round > 2 else [-1]
        observer.on_round(
            RoundRecord(
                round=step.round,
                phase=str(step.phase),
                seconds=0.5,
                asked=2,
                answered=2,
                accuracy=0.1 * step.round,
                loss=1.0 / step.round,
                density=dict.fromkeys(clusters, 1.0 if dense else 0.5),
                bytes_down=1000 * step.round,
                bytes_up=500,
                mask_updated=step.mask_update,
                layer_density={}
                if dense and step.round > 1
                else {k: {"conv": 1.0 - 0.1 * step.round, "head": 1.0} for k in clusters},
            ),
            len(plan),
        )
        if evaluated:
            observer.on_round(
                RoundRecord(
                    round=step.round,
                    phase="evaluate",
                    seconds=0.1,
                    asked=4,
                    answered=4,
                    accuracy=0.05 * step.round,
                ),
                len(plan),
            )
        if step.round == 2 and clustered:
            distances = np.array(
                [[0.1 if cluster_of[a] == cluster_of[b] else 0.9 for b in names] for a in names]
            )
            np.fill_diagonal(distances, 0.0)
            observer.on_distances(names, distances)
            observer.on_clusters(cluster_of, "k = 2")
    if finished:
        observer.on_finish(_report(accuracies, names, cluster_of, clustered))
    return path


def _report(
    accuracies: Sequence[float], names: Sequence[str], cluster_of: Mapping[str, int], masked: bool
) -> RunReport:
    ledger = Ledger()
    ledger.add_formula(1000, 0.5, messages=2)
    clients = tuple(
        ClientRecord(
            label=name,
            cluster=cluster_of[name],
            examples=10 + i,
            test_examples=4,
            cluster_accuracy=accuracy - 0.1,
            cluster_loss=1.0,
            personal_accuracy=accuracy,
            personal_loss=0.5,
            personal_sparsity=0.5,
        )
        for i, (name, accuracy) in enumerate(zip(names, accuracies, strict=True))
    )
    clusters = {
        number: ClusterReport(
            members=tuple(name for name in names if cluster_of[name] == number),
            examples=20,
            density=0.5 if masked else 1.0,
            mask_bits=MASKS[number],
        )
        for number in sorted(set(cluster_of.values()))
    }
    return RunReport(
        clients=clients,
        clusters=clusters,
        ledger=ledger,
        seconds={"total": 12.0, "rounds": 9.0, "startup": 3.0},
    )
