"""Safetensors files are whole or refused, and as private as they are asked to be."""

import json
import stat
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from caafp_app.errors import RunError
from caafp_app.runs.tensors import PRIVATE, read_tensors, write_tensors


def test_arrays_and_texts_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.safetensors"
    arrays = {
        "scalar": np.array(3, np.int64),
        "turned": np.arange(6.0).reshape(2, 3).T,
        "big-endian": np.arange(4, dtype=">f4"),
        "empty": np.zeros((0, 3), bool),
        "strided": np.arange(10, dtype="i8")[::3],
        "small": np.arange(5, dtype="f2"),
    }
    write_tensors(path, arrays, {"é": "ü"})
    found = read_tensors(path)
    assert found.metadata == {"é": "ü"}
    with pytest.raises(RunError, match="expected at most 100 bytes in"):
        read_tensors(path, limit=100)
    assert found.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].shape == array.shape
    assert [entry.name for entry in path.parent.iterdir()] == ["a.safetensors"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions")
def test_the_mode_is_the_one_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    for name, mode in (("open", None), ("private", PRIVATE)):
        for _ in range(2):  # a file that is replaced gets it as well
            write_tensors(tmp_path / name, {}, **({} if mode is None else {"mode": mode}))
    usual, found, private = (
        stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "open", "private")
    )
    assert (found, private) == (usual, 0o600)


def test_a_dtype_that_is_not_kept_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    for array in (np.zeros(2, complex), np.array(["text"]), np.array([None])):
        with pytest.raises(RunError, match="'x' has dtype"):
            write_tensors(tmp_path / "x", {"x": array})
    assert not list(tmp_path.iterdir())


def content_of(dtype: str, shape: list[int], end: int, size: int) -> bytes:
    header = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"no",
        struct.pack("<Q", 2**60) + b"{}",
        content_of("F64", [2**40], 2**43, 8),
        content_of("F64", [2], 16, 8),
        content_of("F64", [1], 16, 16),
        content_of("BF16", [2], 4, 4),
        content_of("F8_E4M3", [2], 2, 2),
    ],
    ids=["none", "empty", "text", "header", "claims 8 TiB", "cut", "shape", "bfloat16", "float8"],
)
def test_a_file_that_is_damaged_is_refused_by_its_path(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=f"cannot read a safetensors file at {path}"):
        read_tensors(path)
