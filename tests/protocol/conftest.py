"""What Flower gives a running app; messages cannot be made without it."""

import pytest
from flwr.supercore.task_identity import TaskIdentity


@pytest.fixture(scope="session", autouse=True)
def task() -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
