"""Tasks as forks: what the executor does with those that end well, crash, hang or go wrong."""

import base64
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from flwr.app import Message, MessageType, RecordDict
from flwr.common.serde import message_to_proto
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec
from flwr.supercore.task_identity import TaskIdentity

from caafp_app.devices.warm import executor as module
from caafp_app.devices.warm.executor import ForkExecutor

Task = Callable[[int], int]
"""Takes the file descriptor to tell the parent by; returns an exit status."""

SPEC = ExecutionSpec(TaskType.CLIENT_APP, "127.0.0.1:9", "token", True, None, False, None, False, 1)


def say(tell: int, **words: Any) -> None:
    os.write(tell, json.dumps(words).encode() + b"\n")


@pytest.fixture
def run_one(monkeypatch: pytest.MonkeyPatch) -> Callable[[Task], list[str]]:
    """Run a task to its end; return the reasons of the error replies that the executor makes."""

    def run(task: Task) -> list[str]:
        reasons: list[str] = []
        monkeypatch.setattr(module, "run_task", lambda spec, tell, memory, app: task(tell))
        monkeypatch.setattr(module, "_push_error", lambda task, reason: reasons.append(reason))
        executor = ForkExecutor()
        assert executor.launch(SPEC).status == "accepted"
        assert executor._task is not None
        child = executor._task.pid
        executor.reconcile()
        assert executor._task is None
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)  # no zombie is left; other tests may have children
        return reasons

    return run


def well(tell: int) -> int:
    say(tell, answered=True, app="hash")
    return 0


def answered_and_crashed(tell: int) -> int:
    say(tell, answered=True)
    faulthandler.disable()  # pytest's, which tells of it as if the tests had crashed
    os.abort()


def crashed(tell: int) -> int:
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def raised(tell: int) -> int:
    raise ValueError("a mistake")


def babbled(tell: int) -> int:
    os.write(tell, b'nonsense\n[1]\n{"seconds": "x"}\n' + 100_000 * b"x")
    return 3


@pytest.mark.parametrize("task", [well, answered_and_crashed], ids=lambda task: task.__name__)
def test_what_has_answered_is_answered_once(
    run_one: Callable[[Task], list[str]], task: Task
) -> None:
    assert run_one(task) == []


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (crashed, "it ended with SIGSEGV"),
        (raised, "its exit status was 1"),
        (babbled, "its exit status was 3"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_gave_no_answer_is_answered_for(
    run_one: Callable[[Task], list[str]], task: Task, why: str
) -> None:
    began = time.monotonic()
    (reason,) = run_one(task)
    assert reason.startswith("the task of this message gave no answer: ")
    assert why in reason
    assert time.monotonic() - began < 30


def test_what_a_task_started_ends_with_it(run_one: Callable[[Task], list[str]]) -> None:
    read, write = os.pipe()

    def leaves_one_behind(tell: int) -> int:
        program = "import time; time.sleep(1000)"
        child = subprocess.Popen([sys.executable, "-c", program])
        os.write(write, str(child.pid).encode())
        return well(tell)

    assert run_one(leaves_one_behind) == []
    pid = int(os.read(read, 100))
    os.close(read)
    os.close(write)
    deadline = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_task_that_is_no_clientapp_starts_as_flower_starts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executor, launched = ForkExecutor(), []
    monkeypatch.setattr(executor._cold, "launch", launched.append)
    spec = ExecutionSpec(
        TaskType.AGENT_APP, "127.0.0.1:9", "token", True, None, False, None, False, 1
    )
    executor.launch(spec)
    assert launched == [spec]


class _TurnsAway(BaseHTTPRequestHandler):
    """What a SuperNode says of a task whose run was stopped: its token is no longer known."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(HTTPStatus.UNAUTHORIZED)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_an_answer_that_is_turned_away_does_not_end_the_executor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    asked = Message(RecordDict(), 7, MessageType.TRAIN)
    asked.metadata.__dict__["_message_id"] = asked.object_id
    envelope = base64.b64encode(message_to_proto(asked).SerializeToString()).decode()

    def of_a_stopped_run(spec: ExecutionSpec, tell: int, memory: float | None, app: str) -> int:
        say(tell, message=envelope, node=7, run=1)
        return 1

    monkeypatch.setattr(module, "run_task", of_a_stopped_run)
    signals: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: signals.append(number))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _TurnsAway)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        executor = ForkExecutor()
        executor.launch(replace(SPEC, runtime_api_address=f"127.0.0.1:{server.server_port}"))
        executor.reconcile()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        signal.signal(signal.SIGINT, before)
    assert signals == []
