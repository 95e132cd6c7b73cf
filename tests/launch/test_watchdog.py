"""A launcher that dies leaves nothing behind, however it dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caafp_app.launch.processes import Family

LAUNCHER = """
import subprocess, sys, time
from pathlib import Path
from caafp_app.launch.processes import MARK
from caafp_app.launch.processes import guarded

with guarded(Path(sys.argv[1])) as environment:
    subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env=environment,
        start_new_session=True,
    )
    print(environment[MARK], flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_children_end_with_their_launcher(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdout is not None
    family = Family(launcher.stdout.readline().strip())
    assert len(family.members()) == 1
    os.kill(launcher.pid, number)
    launcher.wait()
    launcher.stdout.close()
    deadline = time.monotonic() + 120
    while (family.members() or folder.exists()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert family.members() == set()
    assert not folder.exists()
