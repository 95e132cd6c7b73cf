from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.packing import (
    encoding_rng,
    pack_model,
    pack_trials,
    unpack_parts,
    unpack_trials,
)
from tests.protocol.support import Arrays, models, random_mask, same

MODEL: Arrays = {
    "w": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.ones(3, np.float32),
    "steps": np.array(5),
}
LAYOUT = Layout.of(MODEL)
MASK = Mask(LAYOUT, np.arange(12) % 3 == 1)


@given(model=models, density=st.sampled_from([0.0, 0.3, 1.0]), seed=st.integers(0, 99))
def test_round_trip_is_exact_inside_the_mask(model: Arrays, density: float, seed: int) -> None:
    layout = Layout.of(model)
    mask = random_mask(layout, density, seed)
    flat = layout.flatten(model)
    read = unpack_parts(pack_model(flat, mask, "float32", "float32"), mask, "float32", "float32")
    assert read.values.tobytes() == flat.weights[mask.bits].tobytes()
    assert read.rest.tobytes() == flat.rest.tobytes()
    assert same(read.other, flat.other)


def test_names_and_sizes_of_the_arrays() -> None:
    arrays = pack_model(LAYOUT.flatten(MODEL), MASK, "int8", "float16")
    assert {name: array.nbytes for name, array in arrays.items()} == {
        "values": 4 + 2 + 4,
        "rest": 6,
        "other/steps": 8,
    }


def test_a_wide_bias_does_not_widen_the_weights() -> None:
    model = {"w": MODEL["w"], "b": np.full(3, 0.1)}
    layout = Layout.of(model)
    mask, flat = Mask.full(layout), layout.flatten(model)
    arrays = pack_model(flat, mask, "float32", "float32")
    assert [array.nbytes for array in arrays.values()] == [4 * 12, 8 * 3]
    read = unpack_parts(arrays, mask, "float32", "float32")
    assert read.values.dtype == read.rest.dtype == layout.dtype == np.float64
    assert (read.values.tolist(), read.rest.tolist()) == (list(range(12)), [0.1] * 3)


def test_empty_parts_are_left_out() -> None:
    none = Mask(LAYOUT, np.zeros(12, np.bool_))
    assert pack_model(LAYOUT.flatten(MODEL), none, "float32", "float32").keys() == {
        "rest",
        "other/steps",
    }
    bare = Layout.of({"w": MODEL["w"]})
    assert pack_model(bare.flatten({"w": MODEL["w"]}), Mask.full(bare), "int8", "int8").keys() == {
        "values"
    }
    read = unpack_parts({}, Mask.full(Layout.of({})), "float32", "float32")
    assert (read.values.size, read.rest.size, read.other) == (0, 0, {})


def good() -> dict[str, NDArray[Any]]:
    return pack_model(LAYOUT.flatten(MODEL), MASK, "float32", "float32")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"values": None}, "'values' is missing: 4 values"),
        ({"rest": None}, "'rest' is missing: 3 values"),
        ({"other/steps": None}, r"buffer 'steps': expected int64 \(\), found nothing"),
        ({"values": np.zeros(5, np.float32)}, "expected float32 .4., found float32 .5."),
        ({"values": np.zeros(4, np.float64)}, "found float64"),
        ({"values": np.zeros((4, 1), np.float32)}, "found"),
        ({"values": np.array([1, np.nan, 0, 0], np.float32)}, "NaN"),
        ({"rest": np.array([np.inf, 0, 0], np.float32)}, "infinity"),
        ({"rest": np.zeros(2, np.float32)}, "expected float32 .3."),
        ({"other/steps": np.array(5, np.int32)}, "expected int64 .*, found int32"),
        ({"other/steps": np.array([5])}, r"found int64 \(1,\)"),
        ({"other/more": np.array(5)}, "'other/more' is not of this model"),
        ({"mask": np.zeros(2, np.uint8)}, "'mask' is not of this model"),
    ],
)
def test_bad_arrays_are_refused(change: dict[str, Any], reason: str) -> None:
    arrays = {name: array for name, array in (good() | change).items() if array is not None}
    with pytest.raises(ProtocolError, match=reason):
        unpack_parts(arrays, MASK, "float32", "float32")


def test_values_where_none_belong_are_refused() -> None:
    none = Mask(LAYOUT, np.zeros(12, np.bool_))
    with pytest.raises(ProtocolError, match=r"expected float32 \[0\]"):
        unpack_parts(good(), none, "float32", "float32")


@pytest.mark.parametrize("size", [1, 8, 13])
def test_trials_come_back_and_anything_else_is_refused(size: int) -> None:
    kept = np.random.default_rng(size).random((3, size)) < 0.5
    packed = pack_trials(kept)
    assert np.array_equal(unpack_trials(packed, size), kept)
    for bad in (packed[:0], packed[0], packed.astype(np.int8), np.tile(packed, (6, 1))):
        with pytest.raises(ProtocolError, match="trials: expected"):
            unpack_trials(bad, size)
    with pytest.raises(ProtocolError, match="trials: expected"):
        unpack_trials(packed, size + 8)


def test_a_gradient_beside_the_update_is_left_alone() -> None:
    arrays = good() | {"gradient-index": np.zeros(1, np.uint8), "gradient-value": np.ones(1, "f2")}
    values, rest, other = unpack_parts(arrays, MASK, "float32", "float32")
    assert values.tolist() == [1, 4, 7, 10]
    assert rest.tolist() == [1, 1, 1]
    assert other == {"steps": 5}


@pytest.mark.parametrize("field", ["seed", "round", "direction", "label"])
def test_each_message_rounds_in_its_own_way(field: str) -> None:
    first: dict[str, Any] = {"seed": 1, "round": 2, "direction": "up", "label": "a"}
    other = first | {field: "b" if isinstance(first[field], str) else 7}
    draws = [encoding_rng(*values.values()).random(4).tolist() for values in (first, first, other)]
    assert draws[0] == draws[1] != draws[2]
