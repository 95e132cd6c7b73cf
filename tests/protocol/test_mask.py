import hashlib
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.entry import Entry
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from tests.protocol.support import bits, flat_layout, random_mask

sized = st.integers(0, 70).flatmap(bits)


@given(chosen=sized)
def test_packing_round_trip_over_odd_sizes(chosen: NDArray[np.bool_]) -> None:
    mask = Mask(flat_layout(chosen.size), chosen)
    assert mask.packed.nbytes == -(-chosen.size // 8)
    assert mask.packed.dtype == np.uint8
    again = Mask.unpack(mask.layout, mask.packed)
    np.testing.assert_array_equal(again.bits, chosen)
    assert again == mask
    assert hash(again) == hash(mask)


@given(chosen=sized)
def test_first_weight_is_the_least_significant_bit(chosen: NDArray[np.bool_]) -> None:
    packed = Mask(flat_layout(chosen.size), chosen).packed
    number = int.from_bytes(packed.tobytes(), "little")
    assert [bool(number >> i & 1) for i in range(chosen.size)] == chosen.tolist()


@given(chosen=sized)
def test_counts_and_positions_equal_numpys(chosen: NDArray[np.bool_]) -> None:
    mask = Mask(flat_layout(chosen.size), chosen)
    assert mask.count == chosen.sum()
    assert mask.is_full == bool(chosen.all())
    assert mask.density == (chosen.mean() if chosen.size else 1.0)
    np.testing.assert_array_equal(mask.active, np.flatnonzero(chosen))
    np.testing.assert_array_equal(mask.inactive, np.flatnonzero(~chosen))


@given(chosen=sized, dtype=st.sampled_from([np.float32, np.float64]))
def test_select_and_scatter_are_inverse(chosen: NDArray[np.bool_], dtype: type) -> None:
    weights: NDArray[Any] = np.arange(1, chosen.size + 1, dtype=dtype)
    mask = Mask(flat_layout(chosen.size), chosen)
    values = mask.select(weights)
    np.testing.assert_array_equal(values, weights[chosen])
    dense = mask.scatter(values)
    assert dense.dtype == dtype
    np.testing.assert_array_equal(dense, np.where(chosen, weights, 0))


def test_of_a_full_mask_nothing_is_copied() -> None:
    weights = np.ones(9, np.float32)
    mask = Mask.full(flat_layout(9))
    assert mask.select(weights) is weights
    assert mask.scatter(weights) is weights


@given(size=st.integers(0, 70))
def test_full_mask_is_the_mask_of_ones(size: int) -> None:
    layout = flat_layout(size)
    full, ones = Mask.full(layout), Mask(layout, np.ones(size, np.bool_))
    assert full.is_full
    assert full.count == size
    assert full.digest == ones.digest
    np.testing.assert_array_equal(full.bits, ones.bits)
    np.testing.assert_array_equal(full.packed, ones.packed)
    np.testing.assert_array_equal(full.inactive, [])
    assert full.by_layer().keys() == ones.by_layer().keys()


@pytest.mark.parametrize("size", [1, 8, 13, 8 * 65536, 8 * 65536 + 3, 3 * 8 * 65536 - 1])
def test_digest_is_sha256_of_layout_and_bits(size: int) -> None:
    layout = flat_layout(size)
    for mask in (Mask.full(layout), random_mask(layout, 0.5)):
        expected = hashlib.sha256(layout.digest.encode() + mask.packed.tobytes()).hexdigest()
        assert mask.digest == expected[:16]


def test_masks_of_equal_bits_differ_by_layout() -> None:
    one = Mask.full(Layout.of({"w": np.zeros((2, 3), np.float32)}))
    other = Mask.full(Layout.of({"w": np.zeros((3, 2), np.float32)}))
    assert one != other
    assert one != "mask"


def test_full_mask_takes_no_memory() -> None:
    layout = Layout((Entry("w", (1 << 16, 1 << 10), "float32", True),))
    tracemalloc.start()
    try:
        mask = Mask.full(layout)
        assert mask.is_full
        assert mask.digest == Mask.full(layout).digest
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_bits_cannot_be_changed() -> None:
    mine = np.array([True, False])
    mask = Mask(flat_layout(2), mine)
    mine[0] = False
    assert mask.bits.tolist() == [True, False]
    for frozen in (mask, Mask.full(flat_layout(2)), Mask.unpack(mask.layout, mask.packed)):
        with pytest.raises(ValueError, match="read-only"):
            frozen.bits[0] = False
        with pytest.raises(ValueError, match="read-only"):
            frozen.by_layer()["w"][0, 0] = False


def test_by_layer_has_names_and_shapes() -> None:
    layout = Layout.of(
        {"a": np.zeros((2, 2), "f4"), "b": np.zeros(3, "f4"), "c": np.zeros((1, 3), "f4")}
    )
    mask = Mask(layout, np.array([1, 0, 0, 1, 0, 1, 1], np.bool_))
    assert {name: array.tolist() for name, array in mask.by_layer().items()} == {
        "a": [[True, False], [False, True]],
        "c": [[False, True, True]],
    }


@pytest.mark.parametrize("size", [1, 3, 7, 9, 15])
def test_bits_beyond_the_end_are_refused(size: int) -> None:
    layout = flat_layout(size)
    packed = Mask.full(layout).packed.copy()
    packed[-1] |= 1 << (size % 8)
    with pytest.raises(ProtocolError, match="beyond the last weight"):
        Mask.unpack(layout, packed)


@pytest.mark.parametrize(
    "packed",
    [
        np.zeros(1, np.uint8),
        np.zeros(3, np.uint8),
        np.zeros(2, np.int8),
        np.zeros((2, 1), np.uint8),
    ],
)
def test_packed_bits_of_another_size_are_refused(packed: NDArray[np.generic]) -> None:
    with pytest.raises(ProtocolError, match=r"expected uint8 \[2\]"):
        Mask.unpack(flat_layout(9), packed)


@pytest.mark.parametrize(
    "wrong", [np.ones(3, np.bool_), np.ones(2, np.uint8), np.ones((1, 2), np.bool_)]
)
def test_bits_of_another_size_or_dtype_are_refused(wrong: NDArray[np.generic]) -> None:
    with pytest.raises(ProtocolError, match=r"is bool \[2\]"):
        Mask(flat_layout(2), wrong)  # type: ignore[arg-type]
