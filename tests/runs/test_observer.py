import csv
import json
import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from safetensors.numpy import load_file

from caafp_app.pruning.schedule import build_plan
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.observer import CompositeObserver, DirectoryObserver, LogObserver, Observer
from caafp_app.runs.records import GroupChange, RoundRecord, RunReport
from caafp_app.runs.report_text import report_lines
from caafp_app.runs.summary import build_summary
from caafp_app.runs.tensors import read_tensors
from caafp_app.runs.text import (
    duration,
    influence_lines,
    plan_lines,
    round_line,
    trouble_line,
)
from caafp_app.runs.timeleft import TimeLeft
from tests.runs.conftest import a_round


@dataclass(frozen=True)
class Planned:
    round: int
    phase: str
    mask_update: bool = False
    sparsity: float | None = None


PLAN = [
    Planned(1, "warm-up"),
    Planned(2, "warm-up"),
    Planned(3, "cluster warm-up"),
    Planned(4, "prune", True, 0.25),
    Planned(5, "prune"),
    Planned(6, "prune", True, 0.7),
]
SETTINGS = {"strategy": "caafp", "dataset": "uci-har", "seed": 42}


def record(number: int = 17, phase: str = "cluster warm-up", **changes: object) -> RoundRecord:
    values: dict[str, object] = {"seconds": 1.94, "asked": 10, "answered": 10, "accuracy": 0.9134}
    values |= {"loss": 0.312, "density": {0: 1.0, 2: 0.3, 1: 1.0}}
    values |= {"bytes_down": 1_700_000, "bytes_up": 1_710_000}
    return a_round(number, phase, **{**values, **changes})


def test_the_plan_is_a_tree() -> None:
    facts = {"data set": "uci-har", "model": "har-cnn, 89254 parameters", "codec": "[b]float32[/b]"}
    assert plan_lines(PLAN, facts) == [
        "plan: 6 rounds",
        "├── data set  uci-har",
        "├── model     har-cnn, 89254 parameters",
        "├── codec     [b]float32[/b]",
        "└── phases",
        "    ├── rounds 1-2  warm-up",
        "    ├── round 3     cluster warm-up",
        "    └── rounds 4-6  prune",
        "        ├── mask update in round 4: sparsity 0.250",
        "        └── mask update in round 6: sparsity 0.700",
    ]
    assert plan_lines([], {}) == ["plan: 0 rounds"]
    many = build_plan(0, 0, 206, every=2, initial=0.0, final=0.7, kind="linear")
    lines = plan_lines(many, {})
    assert len(lines) < 10  # it fits a screen
    assert re.search(r"mask updates in rounds .* every 2 rounds.* to 0\.700$", lines[-1])


def test_a_round_is_one_line() -> None:
    assert round_line(record(), 50, 121.0) == (
        "round 17/50 cluster warm-up  10/10 clients  accuracy 0.913  loss 0.31  "
        "density 1.00 1.00 0.30  3.41 MB  1.9 s  2 min left"
    )
    sparse = record(4, "prune", answered=9, refused=1, mask_updated=True, loss=None)
    assert round_line(sparse, 50, None, 15) == (
        "round  4/50 prune             9/10 clients  accuracy 0.913  loss -  "
        "density 1.00 1.00 0.30  3.41 MB  1.9 s  new masks"
    )
    unnumbered = record(0, "describe", accuracy=float("nan"), loss=None, density={})
    assert round_line(unnumbered, 50, None) == (
        "            describe  10/10 clients  accuracy -  loss -  density -  3.41 MB  1.9 s"
    )
    assert "left" not in round_line(record(51, "personalise"), 50, 0.0)
    many = record(density={n: n / 20 for n in range(1, 21)})
    assert "density 0.05-1.00 (20 clusters)" in round_line(many, 50, None)


def test_who_was_scaled_down_or_left_out_is_named() -> None:
    assert influence_lines(record()) == []
    one = record(answered=4, clipped=("a", "b"), opposed=("c",))
    assert influence_lines(one) == [
        "round 17: longer than most, scaled down: 2 of 4 updates: a, b",
        "round 17: against most others, left out: 1 of 4 updates: c",
    ]


def test_trouble_names_reasons_and_missing_clients() -> None:
    assert trouble_line(record()) == ""
    bad = record(
        refused=3,
        reasons={"holds NaN": 2, "wrong length": 1},
        missing=tuple(f"user-{n}" for n in range(10)),
    )
    assert trouble_line(bad) == (
        "round 17: 3 refused: holds NaN (2), wrong length (1); 10 missing: user-0, user-1, "
        "user-2, user-3, user-4, user-5, user-6, user-7 and 2 more"
    )


def test_the_report_is_a_table_by_cluster(report: RunReport) -> None:
    lines = report_lines(report)
    assert lines[0] == "clusters; accuracy in % on each client's test data, mean over clients"
    table = [line.split() for line in lines[1:7]]
    assert " ".join(table[0]) == "cluster clients examples density cluster model personal models"
    assert set(lines[2].replace(" ", "")) == {"─"}
    assert table[2] == ["0", "2", "30", "0.300", "75.0", "87.5"]
    assert table[3] == ["1", "1", "of", "3", "42", "0.200", "87.5", "87.5"]
    assert table[4] == table[1]
    assert table[5] == ["all", "3", "of", "5", "72", "79.2", "87.5"]
    size = f"{report.ledger.overall().down / 1e6:.2f} MB"
    assert lines[7:] == [
        "not scored in the end: d, e",
        "accuracy of cluster models: mean 0.792, std 0.212, min 0.500, worst tenth 0.500, "
        "3 clients",
        "accuracy of personal models: mean 0.875, std 0.102, min 0.750, worst tenth 0.750, "
        "3 clients",
        f"sent: {size} down, {size} up, {size} in all, 2 messages (papers' formula: 0.00 MB)",
        "time of the server: start-up 9.0 s + rounds 121.0 s + personal models 0.0 s = 130.0 s "
        "(2 min)",
    ]


def test_the_report_says_how_long_clients_have_fine_tuned_where_they_found_it(
    report: RunReport,
) -> None:
    found = [4.0, 0.0, 31.0, None, 7.0]
    clients = [
        replace(client, finetune_epochs=epochs)
        for client, epochs in zip(report.clients, found, strict=True)
    ]
    told = replace(report, clients=tuple(clients))
    assert build_summary(told, settings=SETTINGS, rounds=6)["finetune_epochs"] == 5.5
    lines = report_lines(told)
    assert lines[10] == (
        "epochs of fine-tuning, found by each client: median 5.5, 0 to 31; 1 client kept its "
        "cluster's model"
    )


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [
        (0.04, "0.0 s", "0 s"),
        (1.94, "1.9 s", "2 s"),
        (75.0, "75.0 s", "1 min"),
        (121.0, "2 min", "2 min"),
        (3599.0, "1 h 00 min", "1 h 00 min"),
        (3900.0, "1 h 05 min", "1 h 05 min"),
    ],
)
def test_durations_are_short(seconds: float, exact: str, rough: str) -> None:
    assert duration(seconds) == exact
    assert duration(seconds, rough=True) == rough


def test_time_left_is_by_phase() -> None:
    clock = TimeLeft(PLAN)
    assert clock.after(0) is None
    clock.add("describe", 90.0)  # an exchange, no round: start-up must not be multiplied
    assert clock.after(0) is None
    clock.add("warm-up", 1.0)
    clock.add("warm-up", 3.0)
    assert clock.after(2) == pytest.approx(4 * 2.0)  # phases not seen yet: the mean so far
    clock.add("cluster warm-up", 5.0)
    clock.add("prune", 10.0)
    assert clock.after(4) == pytest.approx(2 * 10.0)
    assert clock.after(6) == 0.0


def test_log_goes_to_flowers_logger(report: RunReport, caplog: pytest.LogCaptureFixture) -> None:
    observer: Observer = LogObserver()
    with caplog.at_level(logging.INFO, "flwr"):
        observer.on_plan(PLAN, {"data set": "100 % of uci-har"})
        bad = record(3, refused=1, reasons={"\x1b[31mNaN": 1}, clipped=("\x1bb",))
        observer.on_round(bad, 6)
        observer.on_clusters({"b": 1, "a": 0, "c\x1b": 1}, "silhouette 0.61")
        observer.on_finish(report)
    lines = [entry.getMessage() for entry in caplog.records]
    assert "├── data set  100 % of uci-har" in lines
    assert (
        "round 3/6 cluster warm-up  10/10 clients  accuracy 0.913  loss 0.31  "
        "density 1.00 1.00 0.30  3.41 MB  1.9 s  6 s left"
    ) in lines
    warnings = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert warnings == ["round 3: 1 refused: ?[31mNaN (1)"]
    said = lines.index("3 clients in 2 clusters: silhouette 0.61")
    members = ["  cluster 0: 1 client: a", "  cluster 1: 2 clients: b, c?"]
    assert lines[said + 1 : said + 3] == members
    assert lines[-1].startswith("time of the server: ")
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_an_exchange_that_takes_long_says_how_many_have_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("caafp_app.runs.observer.time.monotonic", lambda: now[0])
    logger = Mock()
    observer = LogObserver(logger)
    labels = [f"user-{n}" for n in range(4)]
    for phase, seconds in (("warm-up", 1.0), ("prune", 6.0)):
        observer.on_asked(labels, phase, 1, 0.0)
        for label in labels:
            now[0] += seconds
            observer.on_answer(label, ok=True)
    told = [call.args[1] for call in logger.info.call_args_list]
    assert told == ["prune: 2 of 4 clients have answered after 12.0 s"]


def test_directory_of_a_whole_run(tmp_path: Path, report: RunReport) -> None:
    run = RunDirectory(tmp_path)
    observer = DirectoryObserver(run, SETTINGS)
    observer.on_plan(PLAN, {"model": "har-cnn"})
    assert json.loads((tmp_path / "settings.json").read_text()) == SETTINGS
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["facts"] == {"model": "har-cnn"}
    assert plan["rounds"][3] == {
        "round": 4,
        "phase": "prune",
        "mask_update": True,
        "sparsity": 0.25,
    }
    for entry in PLAN[4:]:  # of a resumed run: the summary counts rounds by their number
        observer.on_round(record(entry.round, entry.phase), 6)
    moved = GroupChange(what="move", clients=("c",), before=0, after=1, why="led there")
    observer.on_round(record(7, "personalise", changes=(moved,)), 6)
    assert len((tmp_path / "rounds.jsonl").read_text().splitlines()) == 3
    distances = np.array([[0.0, 0.5], [0.5, 0.0]])
    observer.on_distances(["a", "b"], distances)
    kept = load_file(tmp_path / "distances.safetensors")["distances"]
    np.testing.assert_array_equal(kept, distances)
    observer.on_clusters({"b": 0, "a": 0, "c": 1}, "k = 2")
    first = json.loads((tmp_path / "clusters.json").read_text())
    assert first == {
        "note": "k = 2",
        "clusters": {"0": {"members": ["a", "b"]}, "1": {"members": ["c"]}},
        "changes": run.changes(),  # of rounds.jsonl: a resumed run takes them up
    }
    assert not (tmp_path / "summary.json").exists()

    observer.on_finish(report)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["rounds"] == 6
    final = json.loads((tmp_path / "clusters.json").read_text())
    assert final["note"] == "k = 2"
    assert final["changes"] == [
        {"round": 7, "what": "move", "clients": ["c"], "before": 0, "after": 1, "why": "led there"}
    ]
    assert final["clusters"]["1"]["members"] == ["c", "d", "e"]
    assert list(final["clusters"]["0"]) == ["members", "examples", "density", "mask_digest"]
    with (tmp_path / "clients.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == list("abcde")
    model = load_file(tmp_path / "models" / "cluster-0.safetensors")
    np.testing.assert_array_equal(model["weight"], report.clusters[0].arrays["weight"])
    assert model["steps"].shape == ()
    mask, told = read_tensors(tmp_path / "masks" / "cluster-0.safetensors")
    np.testing.assert_array_equal(mask["mask"], [0b10100000])
    assert told == {"mask-digest": "0123456789abcdef", "density": "0.3"}
    assert not (tmp_path / "models" / "cluster-1.safetensors").exists()


def test_composite_hands_on_in_order(report: RunReport) -> None:
    events: dict[str, tuple[object, ...]] = {
        "on_plan": (PLAN, {}),
        "on_round": (record(), 50),
        "on_distances": (["a", "b"], np.zeros((2, 2))),
        "on_clusters": ({"a": 0}, "note"),
        "on_finish": (report,),
    }
    calls = Mock(a=Mock(spec=Observer), b=Mock(spec=Observer))
    both = CompositeObserver([calls.a, Observer(), calls.b])
    for event, given in events.items():
        getattr(both, event)(*given)
    names = [name for name, *_ in calls.mock_calls]
    assert names == [f"{name}.{event}" for event in events for name in "ab"]
    assert [call.args for call in calls.b.mock_calls] == list(events.values())
