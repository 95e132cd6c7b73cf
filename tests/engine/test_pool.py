"""Processes that train clients."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from caafp_app.engine.pool import Pool
from caafp_app.launch.processes import MARK, Family


def test_no_process_runs_the_users_script_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, ran = ModuleType("__main__"), tmp_path / "ran"
    script.__file__ = str(tmp_path / "script.py")
    Path(script.__file__).write_text(f"open({str(ran)!r}, 'w')")
    monkeypatch.setitem(sys.modules, "__main__", script)
    Pool({}, 1).close()
    assert sys.modules["__main__"] is script
    assert not ran.exists()


def test_processes_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import os; from caafp_app.engine.pool import Pool; work = Pool({}, 2)._executor.submit;"
        "work(os.getpid).result(); print(flush=True); input()"
    )
    family, mark = Family(str(tmp_path)), {MARK: str(tmp_path)}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, **streams, env={**os.environ, **mark}) as run:
        assert run.stdout is not None
        run.stdout.readline()
        assert len(family.members()) > 2
        run.kill()
    deadline = time.monotonic() + 60
    while (left := family.members()) and time.monotonic() < deadline:
        time.sleep(0.1)
    family.end()
    assert not left
