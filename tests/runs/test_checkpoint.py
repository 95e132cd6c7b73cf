"""Checkpoints are whole or refused, and only the same run goes on from one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.errors import RunError
from caafp_app.runs.checkpoint import Checkpoints, State

TERMS = {"seed": 42, "sparsity": 0.7, "strategy": "caafp"}


def some_state(seed: int = 0) -> State:
    rng = np.random.default_rng(seed)
    return {
        "nan": float("nan"),
        "tenth": 0.1,
        "names": ["a", "ü"],
        "none": None,
        "models": {0: {"count": 3, "weights": rng.normal(size=100).astype(np.float32)}},
        "a/b": (rng.integers(0, 2, 9).astype(bool), 1),
        "a": {"b": np.zeros((0, 3), np.int64)},
    }


def plain(part: Any) -> Any:
    """A state as it comes back, with the bits of arrays in their place."""
    if isinstance(part, np.ndarray):
        return part.dtype.str, part.shape, part.tobytes()
    if isinstance(part, dict):
        return {str(key): plain(value) for key, value in part.items()}
    return [plain(one) for one in part] if isinstance(part, list | tuple) else part


def assert_same(one: State, other: State) -> None:
    assert repr(plain(one)) == repr(plain(other))  # NaN is not equal to itself


def test_what_was_saved_comes_back_bit_by_bit(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "checkpoints", terms=TERMS)
    path = kept.save(7, some_state())
    assert path == tmp_path / "checkpoints" / "round-0007.safetensors"
    saved = Checkpoints(tmp_path / "checkpoints", terms=dict(TERMS)).load()
    assert saved.round == 7
    assert_same(saved.state, some_state())


def test_the_last_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    (tmp_path / "round-notes.txt").touch()
    for number in (0, 1, 9, 10, 10_000):
        kept.save(number, some_state(number))
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["round-0010.safetensors", "round-10000.safetensors", "round-notes.txt"]
    assert kept.load().round == 10_000
    kept.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["round-notes.txt"]


def test_when_one_is_due() -> None:
    def due(every: int) -> list[int]:
        return [n for n in range(8) if Checkpoints(Path(), every=every).due(n, 7)]

    assert due(0) == []
    assert due(1) == list(range(8))
    assert due(3) == [0, 3, 6, 7]


def test_nothing_to_resume_from_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"expected a checkpoint to resume from in .* found none"):
        Checkpoints(tmp_path / "nowhere").load()


@pytest.mark.parametrize("left", [0.0, 0.5])
def test_a_damaged_one_is_refused_and_the_one_before_is_named(left: float, tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    path = kept.save(4, some_state(4))
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    with pytest.raises(RunError, match=r"round-0004\.safetensors is damaged .* start a new run"):
        kept.load()
    kept.save(3, some_state(3))
    with pytest.raises(RunError, match=r"the one before is round-0003\.safetensors"):
        kept.load()
    path.unlink()  # as it says
    assert kept.load().round == 3


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 10**9))
def test_no_altered_byte_passes(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    kept = Checkpoints(tmp_path_factory.mktemp("run"))
    path = kept.save(4, some_state())
    rng = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    place = int(rng.integers(len(content)))
    content[place] ^= int(rng.integers(1, 256))
    path.write_bytes(content)
    try:
        state = kept.load().state
    except RunError:
        return
    assert_same(state, some_state())  # white space of the JSON, or such


@pytest.mark.parametrize("change", [{"sparsity": 0.8}, {"more": 1}, {"strategy": None}])
def test_other_settings_are_refused_by_name(change: dict[str, object], tmp_path: Path) -> None:
    Checkpoints(tmp_path, terms=TERMS).save(1, some_state())
    (key,) = change
    with pytest.raises(RunError, match=f"^{key}: expected .* as in the run to resume, found"):
        Checkpoints(tmp_path, terms={**TERMS, **change}).load()


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from caafp_app.errors import RunError
from caafp_app.runs.checkpoint import Checkpoints

kept = Checkpoints(Path(sys.argv[1]))
kept.save(1, {"x": np.zeros(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    kept.save(2, {"x": np.zeros(100_000)})
except RunError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of resources")
def test_a_disk_without_room_is_an_error_that_says_so(tmp_path: Path) -> None:
    words = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith(f"cannot write {tmp_path / 'round-0002.safetensors'}: "), done
    assert "make room" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["round-0001.safetensors"]
    assert Checkpoints(tmp_path).load().round == 1
