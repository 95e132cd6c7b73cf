from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from caafp_app.errors import RunError
from caafp_app.export.sparse import read_sparse, write_sparse
from tests.protocol.support import Arrays, arrays, same

names = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=8)
models = st.dictionaries(names, arrays(["float16", "float32", "float64", "int64", "bool"]))
# One file after the other under the same path is what this is about.
REUSED = [HealthCheck.function_scoped_fixture]


@settings(max_examples=25, suppress_health_check=REUSED)
@given(model=models, density=st.floats(0, 1), seed=st.integers(0, 99))
def test_any_model_comes_back_with_its_mask(
    tmp_path: Path, model: Arrays, density: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = {
        name: rng.random(array.shape) < density
        for name, array in model.items()
        if array.ndim >= 2 and array.dtype.kind == "f"
    }
    path = tmp_path / "model.safetensors"
    write_sparse(path, model, mask, {"name": "x"})
    found, found_mask = read_sparse(path)
    zeroed = {
        name: np.where(mask[name], array, array.dtype.type(0)) if name in mask else array
        for name, array in model.items()
    }
    assert same(found, zeroed)
    assert same(found_mask, {name: mask[name] for name in model if name in mask})


def written(path: Path) -> Path:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(40, 50)).astype(np.float32)
    model = {"w": weights, "b": np.ones(3, np.float32), "scale": np.float32(2.0).reshape(())}
    write_sparse(path / "model.safetensors", model, {"w": rng.random((40, 50)) < 0.3})
    return path / "model.safetensors"


def test_the_size_is_that_of_the_values_and_a_bit_a_weight(tmp_path: Path) -> None:
    path = written(tmp_path)
    tensors = load_file(path)
    active = tensors["values/w"].size
    assert 500 < active < 700
    assert tensors["mask/w"].nbytes == 250
    assert path.stat().st_size < 4 * active + 250 + 16 + 700  # the rest is the header


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: m.pop("format"), "found none"),
        (lambda t, m: m.update(version="9"), "version 9"),
        (lambda t, m: m.pop("shapes"), "cannot read the shapes"),
        (lambda t, m: m.update(shapes="[1]"), "cannot read the shapes"),
        (lambda t, m: m.update(shapes='{"w": [-4]}'), "impossible shape"),
        (lambda t, m: m.update(shapes='{"w": [99999999, 99999999]}'), "impossible shape"),
        (lambda t, m: m.update(shapes='{"w": [4, 5]}'), "20 mask bits of 'w'"),
        (lambda t, m: t.pop("mask/w"), "2000 mask bits of 'w'"),
        (lambda t, m: t.update({"values/w": t["values/w"][1:]}), "values of 'w', found"),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(
    tmp_path: Path, change: object, message: str
) -> None:
    path = written(tmp_path)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    tensors = load_file(path)
    change(tensors, metadata)  # type: ignore[operator]
    save_file(tensors, path, metadata)
    with pytest.raises(RunError, match=message):
        read_sparse(path)
