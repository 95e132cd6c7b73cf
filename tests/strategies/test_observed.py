"""What an observer and a result tell: distances, densities of layers, each cluster's rounds."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from caafp_app.strategies import grouping
from tests.strategies.support import Run, run


@pytest.fixture(scope="module")
def done() -> Run:
    return run({"allocation": "erk"})


def test_distances_are_those_that_the_clusters_come_of(done: Run) -> None:
    seen = done.seen
    ((labels, distances),) = seen.distances
    assert labels == sorted(done.label_of.values())
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
    seen = run().seen
    assert seen.labels
    assert seen.distances == []


def test_densities_of_layers_at_first_and_at_mask_updates(done: Run) -> None:
    seen = done.seen
    told = {record.round: record for record in seen.rounds if record.layer_density}
    updates = [record.round for record in seen.rounds if record.mask_updated]
    assert updates
    assert sorted(told) == sorted({1, *updates})
    last = told[max(told)]
    for number, cluster in done.result.clusters.items():
        truth = {name: bits.mean() for name, bits in cluster.mask.items()}
        assert dict(last.layer_density[number]) == pytest.approx(truth)
        assert len(set(truth.values())) > 1
    assert set(told[1].layer_density[-1].values()) == {1.0}


def test_a_cluster_has_the_rounds_that_all_shared_and_then_its_own(done: Run) -> None:
    clusters = done.result.clusters
    histories = [cluster.history for cluster in clusters.values()]
    for number, cluster in clusters.items():
        assert [row.round for row in cluster.history] == list(range(1, 9))
        assert cluster.history[0] == histories[0][0]  # the warm-up is of one model
        assert cluster.history[0].replies == 4
        assert cluster.history[-1].density == cluster.density
        densities = [row.density for row in cluster.history]
        assert densities == sorted(densities, reverse=True)
        for row in cluster.history[1:]:
            assert done.seen.round(row.round).density[number] == row.density
    for row in list(zip(*histories, strict=True))[1:]:
        record = done.seen.round(row[0].round)
        assert sum(part.replies for part in row) == record.answered
        total = sum((part.accuracy or 0.0) * part.replies for part in row)
        assert record.accuracy == pytest.approx(total / record.answered)
