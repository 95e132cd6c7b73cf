from pathlib import Path

import pytest

from caafp_app.runs.records import RoundRecord, RunReport
from caafp_app.runs.tensorboard import TensorBoardObserver


def record(number: int, phase: str, accuracy: float | None) -> RoundRecord:
    return RoundRecord(
        round=number,
        phase=phase,
        seconds=2.0,
        asked=3,
        answered=2,
        refused=1,
        accuracy=accuracy,
        density={-1: 1.0} if number == 1 else {0: 0.5, 1: 0.25},
        bytes_down=3_000_000,
    )


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the event files as TensorBoard does."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulators.EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_scalars_are_written_by_round(tmp_path: Path, report: RunReport) -> None:
    pytest.importorskip("tensorboard")
    observer = TensorBoardObserver(tmp_path, {})
    observer.on_round(record(1, "warm-up", 0.25), 2)
    observer.on_round(record(2, "cluster", 0.5), 2)
    observer.on_round(record(2, "prune", None), 2)
    during = scalars(tmp_path / "tensorboard")
    assert during["rounds/accuracy"] == [(1, 0.25)]  # on the disk before the end
    observer.on_finish(report)
    found = scalars(tmp_path / "tensorboard")
    assert found["cluster/accuracy"] == [(2, 0.5)]
    assert found["rounds/density-all"] == [(1, 1.0)]
    assert found["rounds/density-1"] == [(2, 0.25)]
    assert found["rounds/megabytes-down"] == [(1, 3.0), (2, 3.0)]
    assert found["rounds/clients-refused"] == [(1, 1.0), (2, 1.0)]
    assert "rounds/loss" not in found  # nobody reported one
    assert found["end/personal-accuracy-mean"] == [(2, pytest.approx(0.875))]
