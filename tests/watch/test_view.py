"""A run as `caafp watch` shows it, from the folder alone."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from caafp_app import cli
from caafp_app.errors import RunError
from caafp_app.runs.live import LiveLog
from caafp_app.watch.page import content
from caafp_app.watch.view import Watcher
from caafp_app.watch.web import build
from tests.left_run import leave_run

EVIL = '<script>alert("x")</script>'


@pytest.fixture
def going(tmp_path: Path) -> Path:
    """The folder of a run whose sixth round goes on."""
    folder = leave_run(tmp_path / "walks", finished=False)
    log = LiveLog(folder)
    log.on_present({"user-00": 11, "user-01": 12, EVIL: 13})
    log.on_asked(["user-00", "user-01"], "prune", 6, 1000.0)
    log.on_answer("user-00", True, "", 0.8125, 2_500_000)
    return folder


def test_it_says_where_the_run_is(going: Path) -> None:
    view = Watcher(going).look(now=990.0)
    assert view.headline == "prune, round 6 of 6: 1 of 2 answered"
    assert view.deadline == pytest.approx(10.0)
    assert (view.total, view.accuracy) == (6, pytest.approx(0.6))
    assert view.bytes_total == sum(1000 * n + 500 for n in range(1, 7))
    assert {row.device.label: (row.device.node, row.state) for row in view.devices} == {
        EVIL: (13, "waits"),
        "user-00": (11, "answered"),
        "user-01": (12, "works"),
    }
    assert "user-01 has missed its deadline" in Watcher(going).look(now=1000.5).troubles
    figures = [(row.cells()[5], row.cells()[6]) for row in view.devices]
    assert figures == [("-", "-"), ("81.2 %", "2.50 MB"), ("-", "-")]


def test_a_watcher_sees_what_is_new(going: Path) -> None:
    watcher = Watcher(going)
    assert watcher.look(now=990.0).answered == 1
    LiveLog(going).on_answer("user-01", True, "")
    view = watcher.look(now=990.0)
    assert (view.answered, view.deadline) == (2, None)


def test_a_finished_run_of_a_simulation_is_shown_too(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "run")
    view = Watcher(folder).look()
    assert (view.finished, view.headline) == (True, "finished after 6 rounds")
    assert [row.device.label for row in view.devices] == [f"user-{i:02d}" for i in range(4)]
    done = CliRunner().invoke(cli.app, ["watch", str(folder)])
    assert done.exit_code == 0, done.output
    assert "finished after 6 rounds" in done.output


def test_the_terminal_shows_no_control_characters(going: Path) -> None:
    LiveLog(going).on_present({"\x1b[31mred": 5, "pi-3": 2**64 - 1})
    done = CliRunner().invoke(cli.app, ["watch", str(going), "--once"])
    assert "\x1b[31m" not in done.output
    assert "?[31mred" in done.output
    assert str(2**64 - 1) in done.output  # whole in 80 columns


def test_the_page_escapes_what_clients_say(going: Path) -> None:
    shown = content(Watcher(going).look())
    assert EVIL not in shown
    assert "&lt;script&gt;" in shown


def test_the_server_answers_this_machine_alone(going: Path) -> None:
    client = TestClient(build(going), base_url="http://127.0.0.1")
    answer = client.get("/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "user-01" in client.get("/view").text
    assert client.get("/watch.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.post("/view").status_code == 405


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plan.json", '{"rounds": 5}'),
        ("rounds.jsonl", "[]\n"),
        ("rounds.jsonl", '{"round": "x", "phase": 3, "seconds": "a", "bytes_down": null}\n'),
        ("rounds.jsonl", '{"accuracy": "high", "bytes_down": 1, "bytes_up": 1, "seconds": 1}\n'),
        ("clusters.json", '{"clusters": {"0": 5}}'),
    ],
)
def test_what_is_no_file_of_a_run_is_said(going: Path, name: str, text: str) -> None:
    (going / name).write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"cannot read .*walks"):
        Watcher(going).look()
    with pytest.raises(RunError, match="expected a run directory"):
        Watcher(going.parent).look()


def test_a_run_that_ended_early_says_why_until_it_goes_on(going: Path) -> None:
    LiveLog(going).ended("nobody trained")
    view = Watcher(going).look()
    assert (view.finished, view.headline) == (True, "ended early: nobody trained")
    LiveLog(going).on_asked(["user-00"], "prune", 6, deadline=0.0)
    assert not Watcher(going).look().finished
