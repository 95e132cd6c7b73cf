import contextlib
import io
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ConfigRecord, RecordDict
from hypothesis import given
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.arrays import ARRAYS, from_record, read_array, to_array, to_record
from tests.protocol.support import CARRIED, FLOATS, Arrays, arrays, by_wire, models, same


def sent(
    header: str, data: bytes = b"", *, dtype: str = "float32", shape: tuple[int, ...] = (2,)
) -> Array:
    """An array of any header and any bytes."""
    text = header.encode("latin1") + b"\n"
    npy = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data
    return Array(dtype, shape, "numpy.ndarray", npy)


def header(descr: str = "'<f4'", order: str = "False", shape: str = "(2,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


@given(model=models)
def test_round_trip_through_the_wire(model: Arrays) -> None:
    records = RecordDict({ARRAYS: to_record(model)})
    assert same(from_record(records), model)
    assert same(from_record(by_wire(records)), model)


@given(array=arrays(FLOATS + CARRIED))
def test_bytes_are_those_of_flower(array: NDArray[Any]) -> None:
    ours, theirs = to_array("a", array), Array(array)
    assert (ours.dtype, ours.shape, ours.stype) == (theirs.dtype, theirs.shape, theirs.stype)
    assert ours.data == theirs.data
    np.testing.assert_array_equal(ours.numpy(), array)


@pytest.mark.parametrize("axes", [2, 3])
def test_other_memory_orders_are_read_alike(axes: int) -> None:
    array = np.arange(24.0).reshape((4, 6) if axes == 2 else (2, 3, 4))
    for view in (array.T, array[::2], array[..., ::-1], np.asfortranarray(array)):
        np.testing.assert_array_equal(read_array("a", to_array("a", view)), view)
        np.testing.assert_array_equal(read_array("a", Array(view)), view)  # Flower keeps the order
    repeated = np.broadcast_to(np.float32(3), (2, 2))
    np.testing.assert_array_equal(read_array("a", to_array("a", repeated)), repeated)


def test_reading_makes_no_copy_and_no_writable_view() -> None:
    array = to_array("a", np.zeros(1 << 20, np.float32))
    tracemalloc.start()
    try:
        view = read_array("a", array)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()
    assert not view.flags.writeable


def test_missing_record_has_no_arrays() -> None:
    assert from_record(RecordDict()) == {}
    assert from_record(RecordDict({ARRAYS: ConfigRecord()})) == {}
    assert from_record(RecordDict({"mine": to_record({"x": np.zeros(1)})}), "mine").keys() == {"x"}


@pytest.mark.parametrize(
    "array",
    [np.array(["text"]), np.array([None]), np.zeros(2, [("a", "f4")]), np.array(["2020"], "M8[D]")],
)
def test_only_numbers_are_sent(array: NDArray[Any]) -> None:
    with pytest.raises(ProtocolError, match=r"'a'.* is not a plain number"):
        to_record({"a": array})


@pytest.mark.parametrize(
    "shape", ["(1000000000000,)", "(1000000, 1000000)", "(999999999999999999,)"]
)
@pytest.mark.parametrize("stated", ["honest", "lying"])
def test_a_header_that_claims_terabytes_takes_no_memory(shape: str, stated: str) -> None:
    claimed = tuple(int(axis) for axis in shape.strip("(),").split(","))
    array = sent(header(shape=shape), b"\0" * 8, shape=claimed if stated == "honest" else (2,))
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="'a'"):
            read_array("a", array)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "data", "dtype", "shape", "reason"),
    [
        (header(), b"\0" * 8, "float16", (2,), "stated as float16"),
        (header(), b"\0" * 8, "float32", (3,), "stated as float32 .3,."),
        (header(), b"\0" * 8, "float32", (), "stated as"),
        (header("'<i4'"), b"\0" * 8, "float32", (2,), "sent as int32"),
        (header(), b"\0" * 7, "float32", (2,), "does not fit"),
        (header(), b"\0" * 9, "float32", (2,), "does not fit"),
        (header(), b"", "float32", (2,), "does not fit"),
        (header("'|b1'"), b"\1\2", "bool", (2,), "truth value"),
        (header(shape="(0, 99999999999999999)"), b"", "float32", (0, 99999999999999999), None),
        (header(shape="(" + "0, " * 63 + "1)"), b"", "float32", (0,) * 63 + (1,), None),
        (header(shape="(9999999999999999999, 0)"), b"", "float32", (9999999999999999999, 0), None),
    ],
)
def test_header_and_bytes_must_agree(
    text: str, data: bytes, dtype: str, shape: tuple[int, ...], reason: str | None
) -> None:
    array = sent(text, data, dtype=dtype, shape=shape)
    if reason is None:  # empty, and numpy's own limits decide
        with contextlib.suppress(ProtocolError):
            assert read_array("a", array).size == 0
    else:
        with pytest.raises(ProtocolError, match=f"'a'.*{reason}"):
            read_array("a", array)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        header("'|O'"),
        header("'<U4'"),
        header("'<M8[s]'"),
        header("'|V4'"),
        header("[('a', '<f4')]"),
        header("'<f3'"),
        header("'<f4', 'x': 1"),
        header(order="1"),
        header(shape="(-1,)"),
        header(shape="(2.0,)"),
        header(shape="(True,)"),
        header(shape="2"),
        header(shape="(,)"),
        header(shape="(2"),
        header(shape="(2,) + (3,)"),
        header(shape="(" + "9" * 30 + ",)"),
        header(shape="(" * 3000),
        header(shape="-" * 3000 + "1"),
        header() + header(),
        "__import__('os').abort()",
        "\xff\xfe",
    ],
)
def test_other_headers_are_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="'a'"):
        read_array("a", sent(text, b"\0" * 8))


def test_the_other_byte_order_is_read_as_this_machine_s() -> None:
    array = sent(header("'>f4'"), np.array([1.5, -2.0], ">f4").tobytes(), shape=(2,))
    found = read_array("a", array)
    assert found.dtype.isnative
    assert found.tolist() == [1.5, -2.0]


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pytest.fail, ("unpickled",)


def test_pickled_objects_are_refused_and_not_loaded() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], object), allow_pickle=True)
    for data in (buffer.getvalue(), pickle.dumps(Bomb())):
        with pytest.raises(ProtocolError, match="not a plain npy array"):
            read_array("a", Array("object", (1,), "numpy.ndarray", data))


def test_other_versions_and_encodings_are_refused() -> None:
    good = to_array("a", np.zeros(2, np.float32))
    version_2 = good.data.replace(b"\x93NUMPY\x01", b"\x93NUMPY\x02", 1)
    with pytest.raises(ProtocolError, match=r"version 1\.0"):
        read_array("a", Array(good.dtype, good.shape, good.stype, version_2))
    with pytest.raises(ProtocolError, match="stated as"):
        read_array("a", Array(good.dtype, good.shape, "torch", good.data))
