"""One writer to a folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from caafp_app.errors import SettingsError
from caafp_app.runs.lock import sole_writer

HOLD = """
import sys, time
from pathlib import Path
from caafp_app.runs.lock import sole_writer
with sole_writer(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_one_is_kept_out_until_the_first_lets_go(tmp_path: Path) -> None:
    with (
        sole_writer(tmp_path, "first"),
        pytest.raises(SettingsError, match="somebody writes here"),
        sole_writer(tmp_path, "somebody writes here"),
    ):
        pass
    with sole_writer(tmp_path, "free again"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(SettingsError), sole_writer(tmp_path, "busy"):
            pass
        other.kill()
        other.wait()
    with sole_writer(tmp_path, "free"):
        pass
