"""Processes that train clients."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from caafp_app.engine.pool import Pool


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
