"""The executor with Flower's own SuperNode behind it: its state, its HTTP API, a real app.

Not a SuperLink: a message is put where the SuperNode puts it, and the reply read where it reads it.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.superexec.executor import ExecutionSpec
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.main import create_app
from flwr.supernode.nodestate import NodeStateFactory
from flwr.supernode.start_client_internal import _insert_message

from caafp_app.devices.warm.executor import ForkExecutor
from tests.e2e.fleet import free_port

RUN, NODE = 7, 1
APP = """
import os, signal, time
import numpy as np
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    what = message.metadata.group_id
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hung":
        time.sleep(1000)
    if what == "greedy":
        np.ones(2**31)
    if what == "exited":
        os._exit(7)
    return Message(RecordDict({"metrics": MetricRecord({"pid": os.getpid()})}), reply_to=message)
"""
PROJECT = """
[project]
name = "troubled"
version = "1.0.0"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "tests"
fab-include = ["/*.py"]

[tool.flwr.app.components]
serverapp = "troubled_app:app"
clientapp = "troubled_app:app"
"""


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Message]]:
    """Start a SuperNode's API; give a function that has one message answered by a fork."""
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(TaskIdentity, "_task_id", 1)
    monkeypatch.setattr(TaskIdentity, "_run_id", RUN)
    monkeypatch.setattr(TaskIdentity, "_node_id", NODE)
    app = tmp_path / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (app / "troubled_app.py").write_text(APP, encoding="utf-8")
    content = build_fab_from_disk(app)
    digest = hashlib.sha256(content).hexdigest()
    objects = ObjectStoreFactory()
    states = NodeStateFactory(objectstore_factory=objects)
    state, store = states.state(), objects.store()
    state.set_node_id(NODE)
    run = Run.create_empty(RUN)
    run.fab_id, run.fab_version, run.fab_hash = "tests/troubled", "1.0.0", digest
    state.store_run(run)
    state.store_fab(Fab(digest, content, {}))
    config = {"round-timeout": 6.0}
    state.set_run_series_context(run.series_id, Context(RUN, NODE, {}, RecordDict(), config))
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(create_app(state_factory=states), port=port, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    executor = ForkExecutor(memory_mb=300.0)

    def answered(what: str) -> Message:
        records = RecordDict({"metrics": MetricRecord({"a": 1.0})})
        message = Message(records, NODE, "train", group_id=what)
        message.metadata.__dict__["_run_id"] = RUN
        task = state.create_task(TaskType.CLIENT_APP, RUN, digest)
        assert task is not None
        _insert_message(message, state, store)
        token = state.claim_task(task)
        assert token is not None
        spec = ExecutionSpec(
            TaskType.CLIENT_APP, f"127.0.0.1:{port}", token, True, None, False, None, False, task
        )
        executor.launch(spec)
        executor.reconcile()
        (reply,) = state.get_messages_legacy(is_reply=True)
        assert reply.metadata.reply_to_message_id == message.metadata.message_id
        return reply

    yield answered
    server.should_exit = True
    thread.join(timeout=30)


def test_bad_tasks_are_error_replies_and_the_next_one_is_answered(
    ask: Callable[[str], Message],
) -> None:
    for what, why in (
        ("killed", "it was killed, as the system does when memory runs out"),
        ("exited", "its exit status was 7"),
        ("hung", "it was ended after 5 s, nine tenths of round-timeout"),
        ("greedy", "Unable to allocate"),
    ):
        reply = ask(what)
        assert reply.has_error(), what
        assert why in str(reply.error.reason)
        assert not ask("well").has_error()
