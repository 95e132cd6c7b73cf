import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.gradient import SparseGradient, pack_gradient, top_inactive, unpack_gradient
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from tests.protocol.support import bits, flat_layout, random_mask

LAYOUT = Layout.of(
    {"a": np.zeros((3, 5), "f4"), "b": np.zeros(4, "f4"), "c": np.zeros((1, 1), "f4")}
    | {"d": np.zeros((4, 6), "f4")}
)
P = LAYOUT.weight_count
ties = hnp.arrays(np.float32, P, elements=st.sampled_from([0.0, 0.25, -0.25, 1.0, -2.0]))
wide = hnp.arrays(np.float32, P, elements=st.floats(-1e6, 1e6, width=32))


def truth(gradient: NDArray[np.float32], mask: Mask, counts: list[int]) -> dict[int, float]:
    """Each layer's largest inactive gradients that are not zero, the first of equal ones."""
    chosen: dict[int, float] = {}
    for part, count in zip(mask.layout.segments, counts, strict=True):
        places = [i for i in range(part.start, part.stop) if not mask.bits[i] and gradient[i]]
        places.sort(key=lambda i: (-abs(gradient[i]), i))
        chosen |= {i: float(gradient[i]) for i in places[:count]}
    return dict(sorted(chosen.items()))


@given(
    gradient=st.one_of(ties, wide),
    chosen=bits(P),
    counts=st.lists(st.integers(0, 25), min_size=3, max_size=3),
)
def test_largest_of_each_layer(
    gradient: NDArray[np.float32], chosen: NDArray[np.bool_], counts: list[int]
) -> None:
    mask = Mask(LAYOUT, chosen)
    found = top_inactive(gradient, mask, counts)
    assert found.index.dtype == np.int64
    assert found.value.dtype == np.float32
    assert dict(zip(found.index.tolist(), found.value.tolist(), strict=True)) == truth(
        gradient, mask, counts
    )
    assert (np.diff(found.index) > 0).all()


@given(gradient=wide, chosen=bits(P), counts=st.lists(st.integers(0, 25), min_size=3, max_size=3))
def test_packing_and_unpacking_keeps_gradients(
    gradient: NDArray[np.float32], chosen: NDArray[np.bool_], counts: list[int]
) -> None:
    mask = Mask(LAYOUT, chosen)
    sent = top_inactive(gradient, mask, counts)
    gaps, shares, scale = pack_gradient(sent, mask)
    assert scale == abs(sent.value).max(initial=0)
    read = unpack_gradient(gaps, shares, scale, mask, sum(counts))
    np.testing.assert_array_equal(read.index, sent.index)
    error = abs(read.value - sent.value.astype(np.float64))
    assert (error <= np.maximum(abs(sent.value) * 2**-10, scale * 2**-24)).all()


def test_bytes_of_a_gradient() -> None:
    layout = flat_layout(100_000)
    mask = random_mask(layout, 0.3)
    gradient = np.random.default_rng(1).standard_normal(100_000).astype(np.float32)
    gaps, shares, _ = pack_gradient(top_inactive(gradient, mask, [3500]), mask)
    assert shares.nbytes == 7000
    assert 3500 <= gaps.nbytes < 1.01 * 3500


def test_full_mask_has_no_gradient_to_send() -> None:
    mask = Mask.full(LAYOUT)
    sent = top_inactive(np.ones(P, np.float32), mask, [9, 9, 9])
    gaps, shares, scale = pack_gradient(sent, mask)
    assert (gaps.size, shares.size, scale) == (0, 0, 0)
    assert unpack_gradient(gaps, shares, scale, mask, 27).index.size == 0


def test_one_count_for_each_layer() -> None:
    with pytest.raises(ProtocolError, match="each of 3 layers, found 2"):
        top_inactive(np.ones(P, np.float32), Mask.full(LAYOUT), [1, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gradients_that_are_not_finite_are_refused(bad: float) -> None:
    gradient = np.ones(P, np.float32)
    gradient[2] = bad
    with pytest.raises(ProtocolError, match="NaN or infinity"):
        top_inactive(gradient, Mask(LAYOUT, np.zeros(P, np.bool_)), [1, 1, 1])
    active = Mask(LAYOUT, np.arange(P) == 2)  # not looked at where active
    assert top_inactive(gradient, active, [1, 1, 1]).index.tolist() == [0, 15, 16]


MASK = Mask(flat_layout(10), np.arange(10) < 4)
GAPS, SHARES = np.array([0, 1, 0], np.uint8), np.array([1, -0.5, 0.25], np.float16)


def test_a_message_by_hand() -> None:
    read = unpack_gradient(GAPS, SHARES, 8.0, MASK, 3)
    assert read.index.tolist() == [4, 6, 7]
    assert read.value.tolist() == [8, -4, 2]
    packed = pack_gradient(SparseGradient(read.index, read.value), MASK)
    assert [packed[0].tolist(), packed[1].tolist(), packed[2]] == [[0, 1, 0], SHARES.tolist(), 8]


@pytest.mark.parametrize(
    ("gaps", "shares", "scale", "limit", "reason"),
    [
        (GAPS, SHARES, 1.0, 2, "at most 2 values"),
        (GAPS.astype(np.int8), SHARES, 1.0, 3, "expected uint8"),
        (GAPS, SHARES.astype(np.float32), 1.0, 3, "expected float16"),
        (GAPS[None], SHARES, 1.0, 3, "expected uint8"),
        (GAPS, SHARES[None], 1.0, 3, "expected float16"),
        (GAPS[:2], SHARES, 1.0, 3, "expected 3 of them, found 2"),
        (np.array([0, 1, 3], np.uint8), SHARES, 1.0, 3, "beyond 6"),
        (GAPS, SHARES, np.nan, 3, "stated scale"),
        (GAPS, SHARES, np.inf, 3, "stated scale"),
        (GAPS, SHARES, 1e300, 3, "stated scale"),
        (GAPS, SHARES, -1.0, 3, "stated scale"),
        (GAPS, np.array([1, np.nan, 0], np.float16), 1.0, 3, "stated scale"),
        (GAPS, np.array([1, 1.5, 0], np.float16), 1.0, 3, "stated scale"),
        (np.zeros(7, np.uint8), np.zeros(7, np.float16), 1.0, 9, "cannot differ below 6"),
    ],
)
def test_bad_gradients_are_refused(
    gaps: NDArray[np.generic], shares: NDArray[np.generic], scale: float, limit: int, reason: str
) -> None:
    with pytest.raises(ProtocolError, match=reason):
        unpack_gradient(gaps, shares, scale, MASK, limit)
