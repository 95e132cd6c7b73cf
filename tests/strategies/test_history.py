"""What a result tells of each cluster's rounds."""

import pytest

from tests.strategies.support import run


def test_a_cluster_has_the_rounds_that_all_shared_and_then_its_own() -> None:
    finished = run()
    clusters = finished.result.clusters
    assert len(clusters) == 2
    histories = [cluster.history for cluster in clusters.values()]
    for number, cluster in clusters.items():
        assert [row.round for row in cluster.history] == list(range(1, 9))
        assert cluster.history[0] == histories[0][0]  # the warm-up is of one model
        assert cluster.history[0].replies == 4
        assert cluster.history[-1].density == cluster.density
        densities = [row.density for row in cluster.history]
        assert densities == sorted(densities, reverse=True)
        for row in cluster.history[1:]:
            record = finished.seen.round(row.round)
            assert record.density[number] == row.density
    for row in zip(*histories, strict=True):
        if row[0].round == 1:
            continue
        record = finished.seen.round(row[0].round)
        assert sum(part.replies for part in row) == record.answered
        known = [part for part in row if part.replies]
        assert all(part.accuracy is not None for part in known)
        total = sum((part.accuracy or 0.0) * part.replies for part in known)
        assert record.accuracy == pytest.approx(total / record.answered)
