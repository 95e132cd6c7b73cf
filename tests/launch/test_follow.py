"""Waiting with a deadline, and runs whose log ends before they do."""

import sys

import pytest

from caafp_app.errors import RunError
from caafp_app.launch import follow as module
from caafp_app.launch.follow import Waiting, follow
from caafp_app.launch.superlink import Connection

HANDED_OVER = "import time; print('Successfully started run 7', flush=True); "


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answer for the SuperLink with these states, one a question, the last for good."""
    told = ["running", "running", "finished:completed"]

    def row(run_id: int, connection: Connection) -> dict[str, object]:
        return {"status": told.pop(0) if len(told) > 1 else told[0], "status-details": "N/A"}

    monkeypatch.setattr(module, "_row", row)
    monkeypatch.setattr(module, "_FINISHED_SECONDS", 0.0)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    return told


def test_the_end_of_the_log_is_not_the_end_of_the_run(states: list[str]) -> None:
    lines: list[str] = []
    said = HANDED_OVER + "print('Since flwr 1.32, default simulated SuperNodes changed')"
    outcome = follow([sys.executable, "-c", said], Connection({}, "far"), lines.append)
    assert outcome.succeeded
    assert lines[0] == "Successfully started run 7"
    assert "the log has ended, but the run has not" in lines[1]
    assert lines[1].endswith("flwr log 7 far")


def test_what_does_not_come_is_named_and_the_run_is_stopped(
    states: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[int] = []
    monkeypatch.setattr(module, "stop", lambda run_id, connection: stopped.append(run_id))
    monkeypatch.setattr(module, "_SAY_SECONDS", 0.5)
    lines: list[str] = []
    waiting = Waiting("a Ray of its own", lambda: False, 2.0)
    command = [sys.executable, "-c", HANDED_OVER + "time.sleep(600)"]
    with pytest.raises(RunError, match="expected a Ray of its own within 2 s, found none"):
        follow(command, Connection({}), lines.append, waiting)
    assert stopped == [7]
    assert any(line.startswith("waiting for a Ray of its own (") for line in lines)


def test_a_superlink_that_is_silent_once_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([RunError("no answer"), RunError("no answer"), {"status": "finished:failed"}])

    def row(run_id: int, connection: Connection) -> dict[str, object]:
        answer = next(answers)
        if isinstance(answer, RunError):
            raise answer
        return answer

    monkeypatch.setattr(module, "_row", row)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    assert module.ask(7, Connection({})).status == "finished:failed"


def test_clients_that_still_train_do_not_keep_a_run_that_has_ended(
    states: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[int] = []
    monkeypatch.setattr(module, "stop", lambda run_id, connection: stopped.append(run_id))
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.5)
    command = [sys.executable, "-c", HANDED_OVER + "time.sleep(600)"]
    lines: list[str] = []
    assert follow(command, Connection({}), lines.append, ended=lambda: "").succeeded
    outcome = follow(command, Connection({}), lines.append, ended=lambda: "nobody trained")
    assert (outcome.succeeded, outcome.details) == (False, "nobody trained")
    assert stopped == [7, 7]
