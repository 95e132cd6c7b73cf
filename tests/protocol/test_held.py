from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from hypothesis import given
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError
from caafp_app.protocol.held import (
    LackingError,
    current_mask,
    find_mask,
    held_digest,
    held_mask,
    keep,
    keep_record,
    kept_arrays,
    kept_record,
    kept_text,
    mask_difference,
    remember_mask,
)
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Request
from tests.protocol.support import bits, by_wire, flat_layout, random_mask

LAYOUT = Layout.of(
    {"a": np.zeros((5, 9), "f4"), "b": np.zeros(3, "f4"), "c": np.zeros((2, 3), "f4")}
)
FULL = Mask.full(LAYOUT)
OLD, NEW = random_mask(LAYOUT, 0.5, 1), random_mask(LAYOUT, 0.5, 2)


@pytest.fixture
def context() -> Context:
    return Context(1, 2, {}, RecordDict(), {})


def asking(named: Mask, **changes: object) -> Request:
    return replace(Request(Action.TRAIN, mask_digest=named.digest), **changes)  # type: ignore[arg-type]


def complete(mask: Mask) -> Request:
    packed = None if mask.is_full else mask.packed
    return asking(mask, layout=mask.layout.to_json(), mask=packed)


def difference(old: Mask, new: Mask) -> Request:
    return asking(new, mask=mask_difference(old, new), mask_base=old.digest)


def resolve_mask(request: Request, context: Context) -> Mask:
    """Find and keep, as the mod does once the values are there."""
    mask = find_mask(request, context)
    remember_mask(mask, context)
    return mask


@pytest.mark.parametrize("mask", [FULL, OLD], ids=["full", "sparse"])
def test_a_complete_request_is_enough_and_is_kept(mask: Mask, context: Context) -> None:
    assert held_mask(context) is None
    assert held_digest(context) == ""
    assert resolve_mask(complete(mask), context) == mask
    context.state = by_wire(context.state)
    assert held_mask(context) == mask
    assert held_digest(context) == mask.digest
    assert resolve_mask(asking(mask), context) == mask


def test_a_later_mask_comes_without_its_layout(context: Context) -> None:
    remember_mask(FULL, context)
    assert resolve_mask(asking(OLD, mask=OLD.packed), context) == OLD
    assert resolve_mask(asking(NEW, mask=NEW.packed), context) == NEW
    assert resolve_mask(asking(FULL), context) == FULL


@given(old=bits(LAYOUT.weight_count), new=bits(LAYOUT.weight_count))
def test_a_mask_comes_as_a_difference(old: NDArray[np.bool_], new: NDArray[np.bool_]) -> None:
    context = Context(1, 2, {}, RecordDict(), {})
    before, after = Mask(LAYOUT, old), Mask(LAYOUT, new)
    remember_mask(before, context)
    assert resolve_mask(difference(before, after), context) == after
    assert held_mask(context) == after
    np.testing.assert_array_equal(held_mask(context).bits, new)  # type: ignore[union-attr]


def test_masks_of_two_layouts_have_no_difference() -> None:
    with pytest.raises(ProtocolError, match="two layouts"):
        mask_difference(FULL, Mask.full(flat_layout(LAYOUT.weight_count)))


@pytest.mark.parametrize(
    "request_",
    [asking(OLD), asking(FULL), asking(OLD, mask=OLD.packed), difference(OLD, NEW)],
    ids=["digest", "full", "no-layout", "difference"],
)
def test_a_client_without_state_says_so(request_: Request, context: Context) -> None:
    with pytest.raises(LackingError, match=r"not held here|no model layout"):
        resolve_mask(request_, context)
    assert held_mask(context) is None


def test_a_client_that_holds_another_mask_says_so(context: Context) -> None:
    remember_mask(NEW, context)
    for request in (asking(OLD), difference(OLD, NEW)):
        if request.mask_digest == NEW.digest:
            request = difference(OLD, FULL)
        with pytest.raises(LackingError, match="not held here"):
            resolve_mask(request, context)
    assert held_mask(context) == NEW


def test_a_mask_that_is_not_the_one_named_is_refused_and_not_kept(context: Context) -> None:
    remember_mask(OLD, context)
    lying = [
        replace(complete(NEW), mask_digest="0" * 16),
        replace(difference(OLD, NEW), mask_digest=FULL.digest),
        replace(complete(NEW), layout=flat_layout(LAYOUT.weight_count).to_json()),
    ]
    for request in lying:
        with pytest.raises(ProtocolError, match=r"was named, .* was sent"):
            resolve_mask(request, context)
    assert held_mask(context) == OLD


def test_impossible_masks_are_refused(context: Context) -> None:
    remember_mask(OLD, context)
    for request, reason in [
        (replace(complete(NEW), layout=b"{}"), "not a layout"),
        (replace(complete(NEW), mask=NEW.packed[:-1]), "packed mask"),
        (asking(NEW, mask_base=OLD.digest), "none sent"),
        (replace(difference(OLD, NEW), mask=np.zeros(52, np.uint8)), "cannot differ below 51"),
        (replace(difference(OLD, NEW), mask=np.array([51], np.uint8)), "beyond 51"),
        (replace(difference(OLD, NEW), mask=np.zeros((1, 1), np.uint8)), "expected uint8"),
        (replace(difference(OLD, NEW), mask=np.zeros(1, np.float32)), "expected uint8"),
    ]:
        with pytest.raises(ProtocolError, match=reason):
            resolve_mask(request, context)
    assert held_mask(context) == OLD


def test_a_difference_is_of_the_layout_held_whatever_else_is_sent(context: Context) -> None:
    remember_mask(OLD, context)
    request = replace(difference(OLD, NEW), layout=flat_layout(10_000).to_json())
    assert resolve_mask(request, context) == NEW


def test_current_mask_is_by_layer(context: Context) -> None:
    assert current_mask(context) is None
    remember_mask(FULL, context)
    assert current_mask(context) is None
    remember_mask(OLD, context)
    found = current_mask(context)
    assert {name: array.shape for name, array in found.items()} == {"a": (5, 9), "c": (2, 3)}
    np.testing.assert_array_equal(np.concatenate([a.reshape(-1) for a in found.values()]), OLD.bits)


def test_texts_and_masks_are_kept_side_by_side(context: Context) -> None:
    assert kept_text(context, "label") == ""
    keep(context, label="user-07")
    remember_mask(OLD, context)
    keep(context, other="x")
    remember_mask(FULL, context)
    context.state = by_wire(context.state)
    assert kept_text(context, "label") == "user-07"
    assert kept_text(context, "other") == "x"
    assert held_mask(context) == FULL


def test_records_are_kept_by_name(context: Context) -> None:
    assert kept_record(context, "personal") is None
    assert kept_arrays(context, "personal") == {}
    keep_record(context, "personal", {"w": np.arange(3.0)})
    context.state = by_wire(context.state)
    record = kept_record(context, "personal")
    record.clear()  # an app that empties what it is given
    assert kept_arrays(context, "personal")["w"].tolist() == [0, 1, 2]
