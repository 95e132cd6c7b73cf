"""One mechanism for local files that are damaged or forged: a sentence each."""

import io
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from caafp_app.datasets.resolve import data_shape, load_client
from caafp_app.errors import CaafpError, DataError, RunError, reading
from caafp_app.settings import Settings


def claims_terabytes(path: Path) -> None:
    """Write an NPZ whose X says that it has 4 TB."""
    npy = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        npy, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 1)}
    )
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("X.npy", npy.getvalue() + bytes(64))
        for name in ("y", "user"):
            plain = io.BytesIO()
            np.save(plain, np.zeros(2, np.int64))
            file.writestr(f"{name}.npy", plain.getvalue())


def is_encrypted(path: Path) -> None:
    """Write an NPZ whose members say that they are encrypted."""
    np.savez(path, X=np.zeros((2, 4, 1)), y=np.zeros(2, int), user=np.zeros(2, int))
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(mark, at + 4)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("make", [claims_terabytes, is_encrypted])
def test_a_data_file_that_is_not_what_it_says_ends_in_a_sentence(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "data.npz"
    make(path)
    data = Settings.from_run_config({"dataset": "npz", "data-dir": str(path)}).data
    for read in (data_shape, lambda d: load_client(d, {"partition-id": 0, "num-partitions": 1})):
        with pytest.raises(DataError) as found:
            read(data)
        assert "data.npz" in str(found.value)
        assert "\n" not in str(found.value)


def test_toml_that_is_nested_too_deep_ends_in_a_sentence() -> None:
    with (
        pytest.raises(RunError, match=r"cannot read x\.toml: .*RecursionError"),
        reading("x.toml", RunError),
    ):
        tomllib.loads("a = " + "[" * 100_000)


def test_errors_of_the_package_pass_and_others_become_one() -> None:
    with pytest.raises(DataError, match=r"^as it is$"), reading("x", RunError):
        raise DataError("as it is")
    for error in (MemoryError(), KeyError("facts"), NotImplementedError("that\nmethod")):
        with pytest.raises(CaafpError, match=r"cannot read x: .*damaged"), reading("x", RunError):
            raise error
    with pytest.raises(KeyboardInterrupt), reading("x", RunError):
        raise KeyboardInterrupt
