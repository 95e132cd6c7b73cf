"""Processes, and one real run on a private SuperLink by the simplest of Flower apps."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from caafp_app.errors import RunError
from caafp_app.launch import superlink
from caafp_app.launch.follow import ask, follow, printable, run_command
from caafp_app.launch.plan import Machine
from caafp_app.launch.processes import MARK, Family
from caafp_app.launch.superlink import Connection, executable, private_superlink

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "trivial"
version = "0.0.1"
description = "Sends one message to each node, then ends as it is told."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "tests"

[tool.flwr.app.components]
serverapp = "trivial.app:server"
clientapp = "trivial.app:client"

[tool.flwr.app.config]
end = "well"
"""

APP = """
import time

from flwr.app import Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

client = ClientApp()
server = ServerApp()


@client.train()
def train(message, context):
    return Message(RecordDict(), reply_to=message)


@server.main()
def main(grid, context):
    while len(nodes := list(grid.get_node_ids())) < 2:
        time.sleep(0.1)
    messages = [Message(RecordDict(), node, MessageType.TRAIN) for node in nodes]
    print(f"replies: {len(list(grid.send_and_receive(messages)))}", flush=True)
    if context.run_config["end"] != "well":
        raise ValueError("told to fail")
"""


@pytest.fixture
def trivial(tmp_path: Path) -> Path:
    """Write the app and return its folder."""
    folder = tmp_path / "app"
    (folder / "trivial").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (folder / "trivial" / "__init__.py").write_text("", encoding="utf-8")
    (folder / "trivial" / "app.py").write_text(APP, encoding="utf-8")
    return folder


@pytest.fixture
def mark() -> Iterator[str]:
    """Give a new mark, and end whatever still carries it."""
    value = uuid.uuid4().hex
    yield value
    Family(value).end(grace=0.0)


def start(mark: str, program: str) -> subprocess.Popen[str]:
    """Start a Python program under a mark, and wait for its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {MARK: mark},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


SLEEP = "import time; print('ready', flush=True); time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
# A child in another session, without the mark, as Ray's workers are.
PARENT = f"""
    import os, subprocess, sys, time
    env = {{k: v for k, v in os.environ.items() if k != {MARK!r}}}
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], env=env, start_new_session=True
    )
    print("ready", flush=True)
    time.sleep(60)
"""


class TestFamily:
    def test_the_marked_are_ended_and_no_other(self, mark: str) -> None:
        with start(mark, SLEEP) as mine, start(uuid.uuid4().hex, SLEEP) as other:
            family = Family(mark)
            assert {process.pid for process in family.members()} == {mine.pid}
            assert family.end()
            assert mine.wait(5.0) == -signal.SIGTERM
            assert other.poll() is None
            assert family.members() == set()
            other.kill()

    def test_one_that_does_not_listen_is_killed(self, mark: str) -> None:
        with start(mark, DEAF) as process:
            assert Family(mark).end(grace=0.5)
            assert process.wait(5.0) == -signal.SIGKILL

    def test_descendants_without_the_mark_are_members_even_as_orphans(self, mark: str) -> None:
        family = Family(mark)
        with start(mark, PARENT) as parent:
            seen = family.members()
            assert len(seen) == 2
            parent.kill()
        assert family.members() == {process for process in seen if process.pid != parent.pid}
        assert family.end()


class TestSuperlink:
    def test_a_missing_command_is_named(self) -> None:
        with pytest.raises(RunError, match="'flower-none'"):
            executable("flower-none")

    def test_one_that_does_not_start_is_told_with_its_log(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = tmp_path / "superlink"
        script.write_text("#!/bin/sh\necho no luck today\nexit 3\n", encoding="utf-8")
        script.chmod(0o755)
        monkeypatch.setattr(superlink, "executable", lambda _: str(script))
        with pytest.raises(RunError, match="no luck today"), private_superlink():
            pytest.fail("it started")

    def test_signals_are_as_before_afterwards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(superlink, "_start", lambda *_: None)
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        with private_superlink():
            assert signal.getsignal(signal.SIGTERM) != before[0]
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before

    def test_sigterm_leaves_through_the_cleaning_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(superlink, "_start", lambda *_: None)
        homes = []

        def serve() -> None:
            with private_superlink() as connection:
                homes.append(Path(connection.environment["FLWR_HOME"]).parent)
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1.0)

        with pytest.raises(SystemExit) as caught:
            serve()
        assert caught.value.code == 128 + signal.SIGTERM
        assert [home.exists() for home in homes] == [False]


def test_a_run_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    lines: list[str] = []
    command = [sys.executable, "-c", "print('no SuperLink there')"]
    with pytest.raises(RunError, match="expected `flwr run` to start the run"):
        follow(command, Connection({}), lines.append)
    assert lines == ["no SuperLink there"]


def test_the_command_can_be_typed(tmp_path: Path) -> None:
    command = run_command(tmp_path, Connection({}, "far"), tmp_path / "my run.toml", "a=1 b=2")
    assert printable(command) == (
        f"flwr run {tmp_path} far --run-config '{tmp_path}/my run.toml' "
        "--federation-config 'a=1 b=2' --stream"
    )


@pytest.mark.e2e
def test_a_failed_run_is_told_and_leaves_no_process(trivial: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    lines: list[str] = []
    config = tmp_path / "config.toml"
    config.write_text('end = "ill"\n', encoding="utf-8")
    with private_superlink() as connection:
        family = Family(connection.environment[MARK])
        home = Path(connection.environment["FLWR_HOME"])
        command = run_command(
            trivial, connection, config, Machine(supernodes=2).federation_config()
        )
        outcome = follow(command, connection, lines.append)
        with pytest.raises(RunError, match="expected the SuperLink to know run 12345"):
            ask(12345, connection)
        # The SuperLink itself still runs: without this the last check would prove nothing.
        assert family.members()

    assert "replies: 2" in lines, "\n".join(lines)
    assert not outcome.succeeded
    assert outcome.status == "finished:failed"
    assert "told to fail" in outcome.details
    assert family.members() == set()
    assert not home.exists()
    with contextlib.suppress(ChildProcessError):
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)  # no zombie of ours
