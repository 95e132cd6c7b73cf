from pathlib import Path

import numpy as np
import pytest

from caafp_app.datasets import Windows
from caafp_app.datasets.cache import cache_dir, cached_windows


class Builder:
    """Counts how often something is built."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Windows:
        self.times += 1
        x = np.random.default_rng(1).normal(size=(5, 4, 3)).astype(np.float32)
        return Windows(x, np.arange(5) % 2, np.array([1, 1, 2, 2, 2]), ("a", "b"))


def same(one: Windows, other: Windows) -> None:
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.y, other.y)
    np.testing.assert_array_equal(one.user, other.user)
    assert one.class_names == other.class_names


def test_it_is_built_once_and_mapped_afterwards(home: Path) -> None:
    build = Builder()
    first = cached_windows("thing", build)
    again = cached_windows("thing", build)

    assert build.times == 1
    same(first, Builder()())
    same(first, again)
    assert isinstance(again.x, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        again.x[0] = 0
    assert cache_dir() == home / "cache"
    assert {path.name for path in cache_dir().iterdir()} == {"thing", "thing.lock"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.npy", "cut"),
        ("about.json", '{"version": 0, "class_names": ["a", "b"]}'),
        ("about.json", "[]"),
    ],
)
def test_a_damaged_entry_is_built_again(home: Path, name: str, content: str) -> None:
    build = Builder()
    cached_windows("thing", build)
    (cache_dir() / "thing" / name).write_text(content)
    windows = cached_windows("thing", build)
    assert build.times == 2
    same(windows, Builder()())
    cached_windows("thing", build)
    assert build.times == 2


def test_without_a_place_to_write_it_still_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CAAFP_HOME", str(tmp_path / "file"))
    windows = cached_windows("thing", Builder())

    same(windows, Builder()())
    assert "cannot write the cache" in caplog.text
