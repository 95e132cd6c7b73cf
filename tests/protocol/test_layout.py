import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from caafp_app.errors import ProtocolError
from caafp_app.protocol.layout import MAX_ENTRIES, MAX_JSON_BYTES, Layout
from tests.protocol.support import Arrays, models, same


@given(model=models)
def test_flattening_and_back_loses_no_bit(model: Arrays) -> None:
    layout = Layout.of(model)
    flat = layout.flatten(model)
    assert flat.weights.shape == (layout.weight_count,)
    assert flat.rest.shape == (layout.rest_count,)
    assert flat.weights.dtype == flat.rest.dtype == layout.dtype
    assert same(layout.unflatten(flat), model)
    assert same(layout.unflatten(flat, copy=False), model)


@given(model=models)
def test_counts_are_those_of_the_arrays(model: Arrays) -> None:
    layout = Layout.of(model)
    floating = [array for array in model.values() if array.dtype.kind == "f"]
    assert layout.weight_count == sum(array.size for array in floating if array.ndim >= 2)
    assert layout.parameter_count == sum(array.size for array in floating)
    assert layout.dtype == (np.float64 if any(a.dtype == "f8" for a in floating) else np.float32)
    assert set(layout.flatten(model).other) == {n for n, a in model.items() if a.dtype.kind != "f"}


@given(model=models)
def test_flat_order_is_that_of_the_arrays(model: Arrays) -> None:
    layout = Layout.of(model)
    prunable = [a for a in model.values() if a.dtype.kind == "f" and a.ndim >= 2 and a.size]
    expected = np.concatenate([np.empty(0, layout.dtype), *(a.reshape(-1) for a in prunable)])
    np.testing.assert_array_equal(layout.flatten(model).weights, expected)
    for entry, part in zip(layout.weight_entries, layout.segments, strict=True):
        np.testing.assert_array_equal(expected[part], model[entry.name].reshape(-1))


@given(model=models)
def test_a_layout_survives_json(model: Arrays) -> None:
    layout = Layout.of(model)
    again = Layout.from_json(layout.to_json())
    assert again == layout
    assert again.digest == layout.digest
    assert len(layout.digest) == 16


def test_the_vectors_are_copies_and_so_are_the_arrays() -> None:
    model = {"w": np.ones((2, 2), np.float32), "b": np.ones(2, np.float32), "n": np.array(3)}
    layout = Layout.of(model)
    flat = layout.flatten(model)
    flat.weights[:], flat.rest[:], flat.other["n"][...] = 7, 7, 7
    assert model["w"].sum() == 4
    assert model["n"] == 3
    named = layout.unflatten(flat)
    named["w"][:], named["b"][:], named["n"][...] = 9, 9, 9
    assert flat.weights.tolist() == [7] * 4
    assert flat.other["n"] == 7


@pytest.mark.parametrize(
    "change",
    [
        {"w": ("w", (2, 3), "float32", False)},
        {"w": ("w", (3, 2), "float32", True)},
        {"w": ("w", (2, 3), "float64", True)},
        {"w": ("v", (2, 3), "float32", True)},
    ],
    ids=["prunable", "shape", "dtype", "name"],
)
def test_digest_tells_layouts_apart(change: dict[str, tuple[Any, ...]]) -> None:
    rows = {"w": ("w", (2, 3), "float32", True), "b": ("b", (3,), "float32", False)}
    one, other = (
        Layout.from_json(
            json.dumps(list(r.values())).replace("true", "1").replace("false", "0").encode()
        )
        for r in (rows, rows | change)
    )
    assert one.digest != other.digest


def test_floating_arrays_may_come_back_in_another_float() -> None:
    layout = Layout.of({"w": np.zeros((1, 2), np.float32)})
    assert layout.flatten({"w": np.array([[0.5, 0.1]])}).weights.dtype == np.float32
    wide = layout.flatten({"w": np.array([[1e300, 0.1]])})  # refused later as infinite
    assert np.isinf(wide.weights[0])


def test_arrays_of_a_plain_list_go_by_their_place() -> None:
    named = {name: np.full(2, float(name == "b")) for name in "ba"}
    listed = {str(place): array for place, array in enumerate(named.values())}
    for one, two in ((named, listed), (listed, named), (listed, dict(reversed(listed.items())))):
        flat = Layout.of(one).flatten(two).rest
        assert flat.tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("w", "n"),
    [
        (np.ones((2, 1, 3), np.int32), np.array(3, np.int32)),
        (np.ones((2, 3), np.float64), np.array([2.6])),
        (np.ones((1, 2, 3), bool), np.array([[3]], np.uint8)),
    ],
)
def test_numbers_of_another_kind_and_axes_of_one_are_taken(w: Any, n: Any) -> None:
    layout = Layout.of({"w": np.zeros((2, 3), np.float32), "n": np.array(1)})
    model = layout.flatten({"w": w, "n": n})
    assert model.weights.dtype == np.float32
    assert model.weights.tolist() == [1.0] * 6
    assert (model.other["n"].dtype, model.other["n"].shape) == (np.int64, ())
    assert model.other["n"] == 3


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ({"w": np.zeros((2, 3), np.float32)}, r"missing \['n'\], unexpected none"),
        (
            {"w": np.zeros((2, 3), np.float32), "n": np.array(1), "x": np.zeros(1)},
            r"missing none, unexpected \['x'\]",
        ),
        ({"w": np.zeros((3, 2), np.float32), "n": np.array(1)}, r"expected shape \(2, 3\)"),
        (
            {"w": np.zeros((2, 3), np.complex64), "n": np.array(1)},
            "expected dtype float32, found complex64",
        ),
        ({"w": np.zeros((2, 3), np.float32), "n": np.array(np.nan)}, "numbers of dtype int64"),
        ({"w": np.zeros((2, 3), np.float32), "n": np.array(1e300)}, "numbers of dtype int64"),
    ],
)
def test_another_models_arrays_are_refused(given_: Arrays, reason: str) -> None:
    layout = Layout.of({"w": np.zeros((2, 3), np.float32), "n": np.array(1)})
    with pytest.raises(ProtocolError, match=reason):
        layout.flatten(given_)


def row(
    name: object = "w", shape: object = (2, 2), dtype: object = "float32", prunable: object = 1
) -> list[object]:
    return [name, list(shape) if isinstance(shape, tuple) else shape, dtype, prunable]


@pytest.mark.parametrize(
    "rows",
    [
        {"w": row()},
        "text",
        None,
        7,
        [7],
        [["w", [2, 2], "float32"]],
        [[*row(), 1]],
        ["wsdp"],
        [row(name=1)],
        [row(shape="22")],
        [row(shape=[2.0, 2])],
        [row(shape=[True, 2])],
        [row(shape=[[2], 2])],
        [row(dtype=4)],
        [row(prunable="yes")],
        [row(prunable=True)],
    ],
)
def test_json_that_is_no_layout_is_refused(rows: object) -> None:
    with pytest.raises(ProtocolError, match="not a layout"):
        Layout.from_json(json.dumps(rows).encode())


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(), row()], "stands twice"),
        ([row(dtype="object")], "has dtype 'object'; known are float16"),
        ([row(shape=(-1, 2))], "impossible shape"),
        ([row(shape=(1 << 20, 1 << 20))], "impossible shape"),
        ([row(shape=(0, 1 << 40), prunable=0)], "impossible shape"),
        ([row(shape=(1,) * 33)], "impossible shape"),
        ([row(dtype="int64")], "not prunable"),
        ([row(shape=(0, 2))], "not prunable"),
        ([row(name=str(i), shape=(1 << 31,), prunable=0) for i in range(3)], "at most"),
        ([row(name=str(i)) for i in range(MAX_ENTRIES + 1)], f"at most {MAX_ENTRIES} arrays"),
    ],
)
def test_layouts_that_no_model_has_are_refused(rows: list[object], reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        Layout.from_json(json.dumps(rows).encode())


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"[" * 100_000, b"[" * 900 + b"]" * 900, b"[1e"]
)
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a layout"):
        Layout.from_json(data)


def test_a_long_layout_is_refused_unread() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        Layout.from_json(b" " * (MAX_JSON_BYTES + 1))
