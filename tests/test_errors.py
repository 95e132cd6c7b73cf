"""One mechanism for local files that are damaged or forged: a sentence each."""

import gzip
import io
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from caafp_app.datasets import DataShape, cells, table
from caafp_app.datasets.arrays import read_npz
from caafp_app.datasets.form import Form, read_form
from caafp_app.datasets.resolve import data_shape, load_client
from caafp_app.errors import CaafpError, DataError, RunError, reading
from caafp_app.export.sparse import read_sparse
from caafp_app.launch.presets import read_toml
from caafp_app.protocol.identity import read_known_devices
from caafp_app.runs.checkpoint import Checkpoints
from caafp_app.runs.reading import read_run
from caafp_app.runs.tensors import read_tensors
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
    said = r"cannot read x: Permission denied \(PermissionError\)$"
    with pytest.raises(RunError, match=said), reading("x", RunError):
        raise PermissionError(13, "Permission denied")
    with pytest.raises(KeyboardInterrupt), reading("x", RunError):
        raise KeyboardInterrupt


def deep(opening: str) -> bytes:
    return b'{"a": ' + opening.encode() * 100_000


def sparse(path: Path, shapes: str) -> None:
    save_file({}, path, {"format": "caafp-sparse", "version": "1", "shapes": shapes})


FILES: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], object]]] = {
    "preset": ("a.toml", lambda p: p.write_bytes(b"a = " + b"[" * 100_000), read_toml),
    "preset that is a folder": ("a.toml", lambda p: p.mkdir(), read_toml),
    "preset in a circle": ("a.toml", lambda p: p.symlink_to(p), read_toml),
    "preset of NUL": ("a.toml", lambda p: p.write_bytes(bytes(99)), read_toml),
    "form": (
        "dataset.toml",
        lambda p: p.write_bytes(b"a = " + b"[" * 100_000),
        lambda p: read_form(p.parent),
    ),
    "summary": (
        "summary.json",
        lambda p: p.write_bytes(deep("[")),
        lambda p: (p.with_name("settings.json").write_text("{}"), read_run(p.parent)),
    ),
    "clients": (
        "clients.csv",
        lambda p: p.write_text("label,examples\na," + "9" * 5000),
        lambda p: (p.with_name("settings.json").write_text("{}"), read_run(p.parent)),
    ),
    "tensors": (
        "a.safetensors",
        lambda p: p.write_bytes((1 << 62).to_bytes(8, "little") + b"{}"),
        read_tensors,
    ),
    "tensors in a folder": ("a.safetensors", lambda p: p.mkdir(), read_tensors),
    "sparse": ("a.safetensors", lambda p: sparse(p, deep("[").decode()), read_sparse),
    "checkpoint": (
        "round-1.safetensors",
        lambda p: save_file({}, p, {"version": "1", "state": deep("[").decode(), "sha256": "0"}),
        lambda p: Checkpoints(p.parent).load(),
    ),
    "keys": ("a.pub", lambda p: p.mkdir(), lambda p: read_known_devices(p.parent)),
    "npz in a circle": ("a.npz", lambda p: p.symlink_to(p), lambda p: read_npz(p, ("X",))),
}


@pytest.mark.parametrize("name", FILES)
def test_a_malformed_local_file_ends_in_a_sentence(name: str, tmp_path: Path) -> None:
    file, make, read = FILES[name]
    make(tmp_path / file)
    with pytest.raises(CaafpError) as found:
        read(tmp_path / file)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 1000


@pytest.mark.parametrize("kind", ["csv.gz", "parquet"])
def test_a_small_table_that_unpacks_to_much_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        import pandas as pd

        pd.DataFrame({"ax": np.zeros(100_000)}).to_parquet(path)
    else:
        path.write_bytes(gzip.compress(b"ax\n" + b"0\n" * 100_000))
    monkeypatch.setattr(cells, "MAX_BYTES", 100_000)
    assert path.stat().st_size < cells.MAX_BYTES
    with pytest.raises(DataError, match="expected at most"):
        table.read_table(path, DataShape((3, 1), ("sit",)), Form(), labelled=False)
