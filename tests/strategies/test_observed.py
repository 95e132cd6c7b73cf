"""What an observer is told for figures: distances between clients, densities of layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from caafp_app.strategies import grouping
from tests.strategies.support import Recorder, Run, prepare


class Watcher(Recorder):
    """Keeps distances too."""

    def __init__(self) -> None:
        super().__init__()
        self.distances: list[tuple[list[str], NDArray[Any]]] = []

    def on_distances(self, labels: Sequence[str], distances: NDArray[np.floating]) -> None:
        assert not self.labels  # told before the clusters are
        self.distances.append((list(labels), distances))


def watch(**changes: Any) -> tuple[Run, Watcher]:
    setup, seen = prepare(changes), Watcher()
    setup.strategy.observer = seen
    return setup.start(), seen


def test_distances_are_those_that_the_clusters_come_of() -> None:
    run, seen = watch()
    ((labels, distances),) = seen.distances
    assert labels == sorted(run.label_of.values())
    np.testing.assert_array_equal(distances, distances.T)
    assert np.all(np.diag(distances) == 0)
    condensed = distances[np.triu_indices(len(labels), 1)]
    count = len(set(seen.labels.values()))
    cut = fcluster(linkage(condensed, "average"), count, "maxclust")
    told = np.array([seen.labels[label] for label in labels])
    assert count > 1
    np.testing.assert_array_equal(cut[:, None] == cut, told[:, None] == told)


def test_not_of_more_clients_than_can_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "_MOST_COMPARED", 2)
    _, seen = watch()
    assert seen.labels
    assert seen.distances == []


def test_densities_of_layers_at_first_and_at_mask_updates() -> None:
    run, seen = watch(allocation="erk")
    told = {record.round: record for record in seen.rounds if record.layer_density}
    updates = [record.round for record in seen.rounds if record.mask_updated]
    assert updates
    assert sorted(told) == sorted({1, *updates})
    last = told[max(told)]
    for number, cluster in run.result.clusters.items():
        truth = {name: bits.mean() for name, bits in cluster.mask.items()}
        assert dict(last.layer_density[number]) == pytest.approx(truth)
        assert len(set(truth.values())) > 1
    assert set(told[1].layer_density[-1].values()) == {1.0}
