"""What a run's folder tells while it goes on: who is there, was asked, has answered."""

import logging
from pathlib import Path

import pytest

from caafp_app.runs.live import LIVE, LiveLog, LiveReader
from caafp_app.runs.observer import LogObserver


def test_an_exchange_as_it_happens(tmp_path: Path) -> None:
    log, reader = LiveLog(tmp_path), LiveReader(tmp_path)
    log.on_present({"pi-1": 11, "pi-2": 22})
    log.on_asked(["pi-1", "pi-2"], "warm-up", 3, deadline=1e12)
    live = reader.read()
    assert (live.phase, live.round, live.deadline) == ("warm-up", 3, 1e12)
    assert {d.label: (d.node, d.there, d.answered) for d in live.devices.values()} == {
        "pi-1": (11, True, None),
        "pi-2": (22, True, None),
    }
    log.on_answer("pi-1", True, "", 0.875, 5000)
    assert reader.read().devices["pi-1"].answered is True
    log.on_answer("pi-1", False, "gone")  # what was known stays
    log.on_answer("pi-2", False, "training diverged")
    live = reader.read()
    figures = [(device.accuracy, device.nbytes) for device in live.devices.values()]
    assert figures == [(0.875, 5000), (None, 0)]
    told = [(device.answered, device.reason, device.failures) for device in live.devices.values()]
    assert told == [(False, "gone", 1), (False, "training diverged", 1)]


def test_presence_is_written_when_it_changes(tmp_path: Path) -> None:
    log = LiveLog(tmp_path)
    for nodes in ({"a": 1}, {"a": 1}, {"a": 1, "b": 2}, {"b": 2}, {"b": 9}):
        log.on_present(nodes)
    assert len((tmp_path / LIVE).read_text(encoding="utf-8").splitlines()) == 4
    live = LiveReader(tmp_path).read()
    assert (live.devices["a"].there, live.devices["b"].node) == (False, 9)


def test_a_deadline_is_missed_by_the_clock(tmp_path: Path) -> None:
    log = LiveLog(tmp_path)
    log.on_present({"pi": 1})
    log.on_asked(["pi"], "prune", 4, deadline=100.0)
    live = LiveReader(tmp_path).read()
    pi = live.devices["pi"]
    assert [pi.state(now, live.deadline) for now in (99.0, 101.0)] == ["works", "missed"]
    log.on_asked(["other"], "prune", 5, 200.0)  # it has not answered by then
    device = LiveReader(tmp_path).read().devices["pi"]
    assert (device.failures, device.asked) == (1, False)
    log.on_asked(["pi"], "prune", 6, float("inf"))
    live = LiveReader(tmp_path).read()
    assert (live.round, live.devices["pi"].state(1e12, live.deadline)) == (6, "works")


def test_torn_and_foreign_lines_do_no_harm(tmp_path: Path) -> None:
    log, reader = LiveLog(tmp_path), LiveReader(tmp_path)
    (tmp_path / LIVE).write_bytes(
        b'nonsense\n{"t": 1}\n{"t": "x"}\n[1]\n{"t": 1, "event": "asked"}\n'
        b'{"t": NaN, "event": "present", "joined": {"a": 1}, "left": []}\n'
        b'{"t": 1, "event": "asked", "phase": "", "round": 1e400, "deadline": 0, "labels": []}\n'
        b'{"t": 1, "event": "asked", "phase": "", "round": 1, "deadline": "inf", "labels": []}\n'
    )
    log.on_present({"pi": 1})
    with (tmp_path / LIVE).open("ab") as file:
        file.write(b'{"t": 2, "event": "pre')
        file.flush()
        assert reader.read().devices["pi"].there
        assert "a" not in reader.read().devices
        file.write(b'sent", "joined": {"late": 5}, "left": []}\n')
    assert reader.read().devices["late"].node == 5


def test_a_folder_that_is_gone_ends_no_run(tmp_path: Path) -> None:
    LiveLog(tmp_path / "gone").on_asked(["a"], "warm-up", 1, 0.0)
    assert LiveReader(tmp_path / "gone").read().devices == {}


def test_the_log_says_who_answered_and_who_is_there(caplog: pytest.LogCaptureFixture) -> None:
    observer = LogObserver()
    with caplog.at_level(logging.INFO, "flwr"):
        observer.on_asked([], "describe", 0, 0.0)
        observer.on_answer("pi-1", True)
        observer.on_answer("pi-\x1b2", False, "no data")
        observer.on_present({"pi-1": 11, "pi-2": 22})
        observer.on_present({"pi-1": 11, "pi-2": 22})
        observer.on_asked(["pi-1"], "warm-up", 1, 0.0)
        observer.on_answer("pi-1", True)
        observer.on_present({"pi-1": 11, "pi-3": 33})
    assert [record.getMessage() for record in caplog.records] == [
        "answered: pi-1",
        "answered: pi-?2, refused: no data",
        "2 devices: pi-1 (node 11), pi-2 (node 22)",
    ]
