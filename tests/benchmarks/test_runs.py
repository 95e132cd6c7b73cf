"""The benchmarks that read a run's records: one real run serves both."""

from typing import Any

import pytest

from benchmarks import bare, clients, federated, rounds
from caafp_app.launch.source import default_config
from caafp_app.settings import Scalar, Settings

TINY: dict[str, Scalar] = {
    **{"dataset": "synthetic", "synthetic-users": 6, "synthetic-windows": 20},
    **{"warmup-rounds": 2, "cluster-rounds": 1, "prune-rounds": 2, "prune-every": 1},
    **{"clients-per-round": 3, "clusters": 2, "local-epochs": 1, "finetune-epochs": 1},
}


def record(number: int, phase: str, seconds: float, memory: float = 100.0) -> dict[str, Any]:
    return {
        **{"round": number, "phase": phase, "seconds": seconds, "asked": 3, "answered": 3},
        **{"server_memory_mb": memory, "server_memory_peak_mb": memory},
    }


MADE = federated.Finished(
    [
        record(1, "warm-up", 9.0),
        record(2, "warm-up", 0.5, 80.0),
        record(3, "cluster", 7.0),
        record(3, "cluster-warm-up", 0.6, 110.0),
        record(4, "prune", 0.7, 111.0),
        record(5, "prune", 0.9, 112.0),
        record(6, "personalise", 5.0, 500.0),
    ],
    {"rounds": 5, "clients": 6, "seconds": {"startup": 3.0}},
)


def test_bare_training_has_the_strategys_rounds() -> None:
    settings = Settings.from_run_config(default_config() | TINY)
    wall, cpu = bare.rounds(settings, 6)
    assert len(wall) == len(cpu) == 5
    assert all(0 < seconds < 60 for seconds in wall + cpu)


def test_rounds_are_compared_by_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "run", lambda settings: MADE)
    monkeypatch.setattr(rounds, "bare", lambda settings, nodes: ([0.4] * 5, [0.3] * 5))
    monkeypatch.setattr(rounds, "cores", lambda: 2)
    report = rounds.report_on({"synthetic": TINY})
    by_phase = {row["phase"]: row for row in report.rows}
    # The first round, in which clients start, and the exchange between two rounds do not count.
    assert [row["rounds"] for row in report.rows] == [1, 1, 2, 4]
    assert by_phase["prune"]["seconds"] == pytest.approx(0.8)
    assert by_phase["prune"]["overhead"] == pytest.approx(1 - 0.2 / 0.8)
    assert by_phase["all"]["bare_cpu_seconds"] == pytest.approx(0.3)
    (target,) = report.targets
    assert target.measured == pytest.approx(0.65)
    assert target.limit == pytest.approx(1.25 * 0.2 + 0.15)


def test_memory_of_many_clients_is_judged_within_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "run", lambda settings: MADE)
    report = clients.measure(6, 5, 3)
    assert len(report.rows) == len(MADE.rounds)
    seconds, memory = report.targets
    assert seconds.limit == 900
    assert memory.measured == pytest.approx(112 / 110)
    assert report.to_json()["summary"]["clients"] == 6


@pytest.mark.e2e
def test_records_of_a_real_run() -> None:
    finished = federated.run(TINY | {"engine": "batched"})
    numbered = finished.numbered()
    assert [entry["round"] for entry in numbered] == [1, 2, 3, 4, 5]
    assert all(entry["answered"] == 3 and entry["seconds"] > 0 for entry in numbered)
    assert all(entry["server_memory_mb"] > 50 for entry in numbered)
    assert {entry["phase"] for entry in finished.rounds} >= {"cluster", "personalise"}


def test_a_run_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="no-such-setting"):
        federated.run({"no-such-setting": 1})
