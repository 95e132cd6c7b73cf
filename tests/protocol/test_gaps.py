import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.gaps import decode_gaps, encode_gaps

gaps = st.lists(
    st.one_of(st.integers(0, 200), st.sampled_from([127, 128, 16_383, 16_384, 2**21, 2**28])),
    max_size=30,
)


def leb128(gap: int) -> bytes:
    out = []
    while gap >= 128:
        out.append(gap % 128 + 128)
        gap //= 128
    return bytes([*out, gap])


def at(gaps: list[int]) -> NDArray[np.int64]:
    return np.cumsum(np.array(gaps, np.int64) + 1) - 1


@given(gaps=gaps)
def test_round_trip_and_byte_law(gaps: list[int]) -> None:
    positions = at(gaps)
    coded = encode_gaps(positions)
    assert coded.dtype == np.uint8
    assert coded.tobytes() == b"".join(leb128(gap) for gap in gaps)
    size = int(positions[-1]) + 1 if gaps else 0
    for count in (len(gaps), None):
        decoded = decode_gaps(coded, size, count)
        assert decoded.dtype == np.int64
        np.testing.assert_array_equal(decoded, positions)


@given(data=hnp.arrays(np.uint8, st.integers(0, 40)), size=st.integers(0, 1000))
def test_any_bytes_give_ascending_positions_or_are_refused(
    data: NDArray[np.uint8], size: int
) -> None:
    try:
        positions = decode_gaps(data, size)
    except ProtocolError:
        return
    assert (np.diff(positions) > 0).all()
    assert positions.size == 0 or 0 <= positions[0] <= positions[-1] < size


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([1, 2], "expected 3 of them, found 2"),
        ([1, 2, 3, 4], "expected 3 of them, found 4"),
        ([1, 2, 3, 128], "cut off"),
        ([1, 2, 129], "cut off"),
        ([0, 0, 98], "beyond 100"),
        ([0, 0, 227, 1], "beyond 100"),
        ([0, 0, 255, 255, 255, 255, 127], "beyond 100"),
        ([0, 0, 128, 128, 128, 128, 128, 0], "longer than 5 bytes"),
    ],
)
def test_bad_bytes_are_refused(data: list[int], reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        decode_gaps(np.array(data, np.uint8), 100, 3)
