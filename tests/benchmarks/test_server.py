"""The benchmark of the server, on models of a few thousand weights."""

from typing import Any

import pytest

from benchmarks import server
from benchmarks.server_case import WAYS, Case

SIZE = 20_000


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_case(case: Case) -> dict[str, Any]:
        return {**vars(case), **WAYS[case.way](case)}

    monkeypatch.setattr(server, "run_case", run_case)


def test_a_case_in_a_process_of_its_own() -> None:
    found = server.run_case(Case("caafp", SIZE, 3, 0.3))
    assert (found["way"], found["weights"], found["replies"]) == ("caafp", SIZE, 3)
    assert 0 < found["start_mb"] <= found["aggregation_peak_mb"] <= found["peak_mb"] < 2000
    for key in (
        "ms_per_reply",
        "cpu_ms_per_reply",
        "end_round_seconds",
        "scores_seconds",
        "mask_seconds",
    ):
        assert 0 < found[key] < 10_000


def test_a_case_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        server.run_case(Case("numpy", SIZE, 0))


@pytest.mark.usefixtures("in_this_process")
def test_all_ways_are_measured_and_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TARGET_WEIGHTS", SIZE)
    report = server.measure((SIZE,), (2, 4), ratio_replies=5)
    ways = [(row["way"], row["density"], row["replies"]) for row in report.rows]
    assert ways == [
        *(("caafp", density, replies) for density in (1.0, 0.3) for replies in (2, 4)),
        *(("flower", 1.0, replies) for replies in (2, 4)),
        ("numpy", 1.0, 2),
    ]
    assert all(row["ms_per_reply"] > 0 and row["peak_mb"] > 0 for row in report.rows)
    ratios = report.to_json()["ratios"]
    assert [ratio["density"] for ratio in ratios] == [1.0, 0.3]
    for ratio in ratios:
        for kind in ("plain", "statistics"):
            assert ratio[f"{kind}_ratio"] > 0
            assert ratio[f"{kind}_numpy_ms"] >= ratio[f"{kind}_numpy_add_ms"] > 0
    names = [target.name.partition(",")[0] for target in report.targets]
    assert names.count("peak memory of 4 replies over that of 2") == 2
    assert names.count("time of a reply over numpy's") == 4
    assert names.count("scores and mask update") == 4
    assert server.ratio_report(report).rows == ratios


@pytest.mark.usefixtures("in_this_process")
def test_what_would_not_fit_is_left_out_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_available_bytes", lambda: 1e5)
    monkeypatch.setattr(server, "CASE_SECONDS", 1e-9)
    report = server.measure((SIZE,), (1, 10), (1.0,), ratio_replies=2)
    found = [(row["way"], row.get("note", "measured")[:15]) for row in report.rows]
    assert found == [
        ("caafp", "measured"),
        ("caafp", "left out: about"),
        ("flower", "left out: holds"),
        ("flower", "left out: holds"),
        ("numpy", "measured"),
    ]
