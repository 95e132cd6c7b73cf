import os
from pathlib import Path

import numpy as np
import pytest

from caafp_app.errors import RunError
from caafp_app.runs.files import plain, write_atomic, write_json


def test_atomic_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for target, name in ((os, "fsync"), (Path, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, fail)
            with pytest.raises(RunError, match=r"summary\.json: No space left"):
                write_atomic(path, b"new")
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_json_is_plain_and_indented(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"z": float("nan"), "a": (1, np.float32(0.5)), 3: {"b", "a"}, "p": Path("x")})
    assert path.read_text() == (
        '{\n  "z": null,\n  "a": [\n    1,\n    0.5\n  ],\n'
        '  "3": [\n    "a",\n    "b"\n  ],\n  "p": "x"\n}\n'
    )
    assert plain([True, np.bool_(False), np.int64(2), -np.inf, "é"]) == [True, False, 2, None, "é"]
    with pytest.raises(RunError, match="ndarray"):
        plain({"a": np.zeros(3)})
