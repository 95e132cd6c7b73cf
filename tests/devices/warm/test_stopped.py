"""A run that is stopped while one of its messages arrives: nothing of it stays at the device."""

import importlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
)
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.nodestate import NodeStateFactory

from caafp_app.devices.warm.supernode import forget_stopped_messages

RUN, NODE = 7, 3


@dataclass
class Stopping:
    """A SuperLink whose run ends at one of the calls that bring a message."""

    ends_at: str
    objects: dict[str, bytes] = field(default_factory=dict)

    def pull_object(self, run_id: int, object_id: str) -> bytes:
        self._serve("pull_object")
        return self.objects[object_id]

    def confirm_message_received(self, run_id: int, message_id: str) -> None:
        self._serve("confirm_message_received")

    def _serve(self, call: str) -> None:
        if call == self.ends_at:
            raise RunNotRunningException


def receive(link: Stopping) -> tuple[Any, int | None]:
    """Let Flower's own loop receive a message; return the device's state and the run's id."""
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    state = NodeStateFactory(factory := ObjectStoreFactory()).state()
    state.set_node_id(NODE)
    state.store_run(Run.create_empty(RUN))
    message = Message(
        RecordDict({"c": ConfigRecord({"a": 1})}), dst_node_id=NODE, message_type="train"
    )
    message.metadata.__dict__.update(_run_id=RUN, _message_id=message.object_id)
    tree = get_object_tree(message)
    link.objects = {k: v.deflate() for k, v in get_all_nested_objects(message).items()}
    received = loop._pull_and_store_message(
        state=state,
        object_store=factory.store(),
        node_config={},
        receive=lambda: (message, tree),
        get_run=lambda run_id: None,
        get_fab=lambda fab_hash, run_id: None,
        pull_object=link.pull_object,
        confirm_message_received=link.confirm_message_received,
        trusted_entities=None,
    )
    return state, received


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, RUN)
    monkeypatch.setattr(loop, "_pull_and_store_message", loop._pull_and_store_message)
    forget_stopped_messages()


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize("call", ["pull_object", "confirm_message_received"])
def test_its_message_and_its_task_are_dropped(call: str) -> None:
    state, received = receive(Stopping(call))
    assert received is None
    assert not state.get_messages_legacy(is_reply=False)
    (task,) = state.get_tasks()
    assert task.status.sub_status == "failed"
    assert "its run has ended" in task.status.details
    assert state.claim_task(task.task_id) is None


@pytest.mark.usefixtures("mended")
def test_a_message_that_arrives_is_kept() -> None:
    state, received = receive(Stopping("never"))
    assert received == RUN
    assert len(state.get_messages_legacy(is_reply=False)) == 1
