"""The parts of a warm device: Flower's interfaces, polls, the app's code, memory, options."""

import importlib
import io
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import caafp_app
from caafp_app import cli
from caafp_app.devices.warm import compatibility, start
from caafp_app.devices.warm import supernode as pace
from caafp_app.devices.warm.compatibility import why_not_warm
from caafp_app.devices.warm.supernode import Pace, forget_stopped_messages, quicken
from caafp_app.devices.warm.task import forget_other_code
from caafp_app.errors import SettingsError

PACKAGE = Path(caafp_app.__file__).parent


def test_the_installed_flower_has_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    for name in ("time", "_pull_and_store_message"):
        monkeypatch.setattr(loop, name, getattr(loop, name))  # as they were, afterwards
    assert why_not_warm() == ""
    assert quicken()
    assert forget_stopped_messages()
    assert not quicken()  # another module stands there now


@pytest.mark.parametrize(
    ("place", "parameters", "why"),
    [
        ("flwr.no_such_module:name", (), "this version of Flower has no flwr.no_such_module:name"),
        ("flwr.app:NoSuchName", (), "this version of Flower has no flwr.app:NoSuchName"),
        ("flwr.supernode.runtime.run_clientapp:run_clientapp", ("colour",), "takes no colour"),
    ],
)
def test_what_flower_lacks_is_said(
    monkeypatch: pytest.MonkeyPatch, place: str, parameters: tuple[str, ...], why: str
) -> None:
    monkeypatch.setitem(compatibility._NEEDED, place, parameters)
    assert why in why_not_warm()


def test_polls_are_quick_in_a_run_and_slow_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    now = [1000.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pace.time, "sleep", slept.append)
    clock = Pace()
    clock.sleep(3)
    clock.sleep(0.5)  # waits for its task: a message is at work
    now[0] += pace.BUSY_SECONDS - 1
    clock.sleep(3)
    now[0] += 2
    clock.sleep(3)
    assert slept == [pace.QUICK, pace.REPLY, pace.QUICK, 3]
    assert clock.perf_counter is time.perf_counter


def fab(**files: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return stream.getvalue()


def test_other_code_is_imported_anew_and_the_same_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "walker"
    package.mkdir()
    sources = {"walker/__init__.py": "", "walker/steps.py": "LENGTH = 1\n"}
    for name, text in sources.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("walker.steps")
    assert forget_other_code(fab(**sources))
    assert {"walker", "walker.steps"} <= sys.modules.keys()
    assert forget_other_code(fab(**{"other/__init__.py": "", "other/more.py": ""}))
    assert {"walker", "walker.steps"} <= sys.modules.keys()
    assert not forget_other_code(fab(**{**sources, "walker/steps.py": "LENGTH = 2\n"}))
    assert not {"walker", "walker.steps"} & sys.modules.keys()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_task_gets_no_more_memory_than_it_may_take() -> None:
    program = (
        "from caafp_app.devices.warm.task import _bound_memory\n"
        "import numpy as np\n"
        "_bound_memory(200.0)\n"
        "np.ones(10_000_000)\n"
        "try:\n    np.ones(100_000_000)\nexcept MemoryError:\n    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "refused\n"


def test_an_executor_that_is_ended_with_its_device_has_not_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr(start.atexit, "register", at_exit.append)
    runtime = ["--runtime-api-address", "127.0.0.1:9", "--insecure"]
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    began: list[list[str]] = []

    class Sleeping(subprocess.Popen[bytes]):
        def __init__(self, command: list[str]) -> None:
            began.append(command)
            super().__init__(sleeping)

    monkeypatch.setattr(start.subprocess, "Popen", Sleeping)
    thread = threading.Thread(target=start._keep_executor, args=(runtime, 0.0), daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while thread.is_alive() and time.monotonic() < deadline:
        for leave in reversed(at_exit):
            leave()
        thread.join(timeout=0.1)
    assert not thread.is_alive()
    assert len(began) == 1
    assert not caplog.records


@pytest.fixture
def supernode(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let nothing start; return the command lines that Flower's SuperNode would have."""
    called: list[list[str]] = []
    monkeypatch.setattr("flwr.supernode.cli.flower_supernode", lambda: called.append(sys.argv))
    monkeypatch.setattr(sys, "argv", ["caafp"])
    monkeypatch.setattr(start, "quicken", lambda: None)
    monkeypatch.setattr(start, "forget_stopped_messages", lambda: None)
    return called


@pytest.mark.parametrize(("mode", "said"), [(0o644, True), (0o600, False)])
def test_a_key_that_others_can_read_is_said(
    tmp_path: Path,
    supernode: list[list[str]],
    caplog: pytest.LogCaptureFixture,
    mode: int,
    said: bool,
) -> None:
    key = tmp_path / "pi-1.key"
    key.touch()
    key.chmod(mode)
    start.start_device(["--auth-supernode-private-key", str(key)], cold=True)
    assert ("others can read this key" in caplog.text) == said


def test_isolation_is_decided_here() -> None:
    with pytest.raises(SettingsError, match="expected no --isolation"):
        start.start_device(["--isolation", "subprocess"])
    done = CliRunner().invoke(cli.app, ["device", "--isolation", "process"])
    assert done.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], ["--runtime-api-address", "127.0.0.1:9094", "--insecure"]),
        (
            ["--host", "::1", "--port", "9000"],
            ["--runtime-api-address", "[::1]:9000", "--insecure"],
        ),
        (
            ["--ssl-ca-certfile", "ca.pem", "--superlink", "server:8443"],
            ["--runtime-api-address", "127.0.0.1:9094", "--root-certificates", "ca.pem"],
        ),
    ],
)
def test_the_executor_serves_where_the_supernode_listens(
    arguments: list[str], options: list[str]
) -> None:
    assert start._runtime(start._options(arguments)) == options


@pytest.mark.parametrize(
    ("words", "cold"),
    [
        (["--cold"], "--cold"),
        (["--allow-runtime-dependency-installation"], "needs a process for each message"),
    ],
)
def test_cold_is_flowers_own_way_and_it_is_said(
    supernode: list[list[str]], caplog: pytest.LogCaptureFixture, words: list[str], cold: str
) -> None:
    CliRunner().invoke(cli.app, ["device", *words, "--insecure"])
    ((program, *rest),) = supernode
    assert program == "flower-supernode"
    assert "--isolation" not in rest
    assert "--insecure" in rest
    assert cold in caplog.text
