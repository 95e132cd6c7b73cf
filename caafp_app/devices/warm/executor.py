"""The executor: a fork for each task, watched to its end.

A SuperNode has one message at work at a time, so the executor waits for its task. One that crashes,
hangs or takes too much memory is ended and answered for: the device goes on.
"""

import base64
import contextlib
import json
import logging
import os
import select
import signal
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Context, RecordDict
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult, SubprocessExecutor

from caafp_app.devices.warm.task import DEFAULT_SECONDS, run_task

IDLE_SECONDS, IDLE_POLL = 60.0, 1.0
"""After so long without a task the executor asks for one as seldom as Flower's own."""
_MOST_TOLD = 2**20
_logger = logging.getLogger("flwr")


@dataclass
class _Task:
    spec: ExecutionSpec
    pid: int
    told: int  # file descriptor to read what the task says
    began: float
    said: dict[str, Any] = field(default_factory=dict)
    rest: bytes = b""


class ForkExecutor:
    """An executor of Flower's protocol whose tasks are forks of this process.

    A task may take `memory_mb` MB besides what it shares with this process; None: what is free
    then.
    """

    def __init__(self, memory_mb: float | None = None) -> None:
        self._memory_mb = memory_mb
        self._parent, self._pid = os.getppid(), os.getpid()
        self._cold = SubprocessExecutor()
        self._task: _Task | None = None
        self._same_app = ""
        self._last = time.monotonic()

    def get_eligible_capacity(
        self, supported_task_types: set[TaskType], **_: Any
    ) -> tuple[set[TaskType], set[str]]:
        """Return all task types: `reconcile` has waited until nothing runs."""
        return supported_task_types, set()

    def wait_for_capacity(self, *_: Any, **__: Any) -> None:
        """Return when no task runs."""
        self.reconcile()

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Fork a process for a ClientApp's task; other kinds start as Flower starts them."""
        if spec.task_type is not TaskType.CLIENT_APP:
            return self._cold.launch(spec)
        self.reconcile()
        memory = self._memory_mb if self._memory_mb is not None else _free_mb()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _be_the_task(spec, read, write, memory, self._same_app)
        os.close(write)
        self._task = _Task(spec, pid, read, time.monotonic())
        return LaunchResult.accepted()

    def reconcile(self) -> None:
        """Wait for the task that runs; end one that takes too long; answer for one that failed."""
        if os.getppid() != self._parent:
            signal.raise_signal(signal.SIGTERM)  # the SuperNode is gone
        task = self._task
        if task is None:
            if time.monotonic() - self._last > IDLE_SECONDS:
                time.sleep(IDLE_POLL)
            return
        while (status := self._listen(task)) is None:
            if os.getppid() != self._parent:
                self.close()
                signal.raise_signal(signal.SIGTERM)
                return
        os.close(task.told)
        self._task, self._last = None, time.monotonic()
        if isinstance(app := task.said.get("app"), str) and not status:
            self._same_app = app
        if not task.said.get("answered"):
            self._answer(task, status)

    def close(self) -> None:
        """End the task that runs."""
        if self._task is not None and os.getpid() == self._pid:
            _kill(self._task.pid)

    def _listen(self, task: _Task) -> str | None:
        """Hear what a task says; return how it ended (empty: well), or None while it runs."""
        ready, _, _ = select.select([task.told], [], [], 0.1)
        gone = False
        if ready:
            piece = os.read(task.told, 65536)
            gone = not piece
            *lines, task.rest = (task.rest + piece)[-_MOST_TOLD:].split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError, TypeError):
                    task.said.update(json.loads(line))
        limit = task.said.get("seconds")
        limit = limit if isinstance(limit, int | float) else DEFAULT_SECONDS
        late = time.monotonic() - task.began > limit
        if late:
            _kill(task.pid)
        pid, status = os.waitpid(task.pid, 0 if late or gone else os.WNOHANG)
        if not pid:
            return None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(task.pid, signal.SIGKILL)  # what it started, if anything
        code = os.waitstatus_to_exitcode(status)
        if late:
            return f"it was ended after {limit:.0f} s, nine tenths of round-timeout"
        if code == -signal.SIGKILL:
            return "it was killed, as the system does when memory runs out"
        if code < 0:
            return f"it ended with {signal.Signals(-code).name}"
        return f"its exit status was {code}" if code else ""

    def _answer(self, task: _Task, how: str) -> None:
        """Answer a message whose task cannot: with an error that says why."""
        reason = f"the task of this message gave no answer: {how or 'it ended early'}"
        _logger.error("%s; the device goes on", reason)
        try:
            _push_error(task, reason)
        except Exception as error:
            # Flower answers by itself when the task's heartbeat is missing: within a minute.
            _logger.warning("expected to answer with an error, found: %s", error)


def _be_the_task(
    spec: ExecutionSpec, read: int, write: int, memory: float | None, same_app: str
) -> None:
    """Be the child: run the task and end, whatever happens, before any code of the parent."""
    status = 1
    try:
        os.close(read)
        os.setpgid(0, 0)
        status = run_task(spec, write, memory, same_app)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _push_error(task: _Task, reason: str) -> None:
    from flwr.app import Message
    from flwr.app.error import Error
    from flwr.common.constant import ErrorCode, SubStatus
    from flwr.common.serde import message_from_proto
    from flwr.proto.message_pb2 import Message as ProtoMessage
    from flwr.supercore.interceptors import (
        RuntimeTokenHttpInterceptor,
        RuntimeVersionHttpInterceptor,
    )
    from flwr.supercore.retry import make_simple_http_retry_invoker
    from flwr.supercore.runtime import RuntimeHttpClient
    from flwr.supercore.tls import validate_and_resolve_root_certificates
    from flwr.supernode.runtime.run_clientapp import push_message, push_task_output

    if "message" not in task.said:
        raise LookupError("the task had no message yet, as when its run is stopped")
    packed = base64.b64decode(task.said["message"], validate=True)
    asked = message_from_proto(ProtoMessage.FromString(packed))
    node, run = int(task.said["node"]), int(task.said["run"])
    context = Context(run, node, {}, RecordDict(), {})
    spec = task.spec
    retry = make_simple_http_retry_invoker()
    # Once, and without Flower's own rule, which interrupts the process whose token is refused, as
    # that of a stopped run is. It is right for a task; here it would end the device's executor.
    retry.should_giveup = lambda error: True
    client = RuntimeHttpClient.from_server_address(
        server_address=spec.runtime_api_address,
        insecure=spec.insecure,
        root_certificates=validate_and_resolve_root_certificates(
            spec.root_certificates_path, spec.insecure
        ),
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
            RuntimeTokenHttpInterceptor(spec.token),
        ],
        retry_invoker=retry,
    )
    try:
        error = Error(ErrorCode.CLIENT_APP_CRASHED, reason)
        push_message(client, Message(error, reply_to=asked), context)
        push_task_output(client, None, SubStatus.FAILED, reason)
    finally:
        client.close()


def _kill(pid: int) -> None:
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(pid, signal.SIGKILL)


def _free_mb() -> float | None:
    with contextlib.suppress(OSError, IndexError, ValueError):
        told = Path("/proc/meminfo").read_text(encoding="ascii").partition("MemAvailable:")[2]
        return int(told.split()[0]) * 1024 / 1e6
    return None
