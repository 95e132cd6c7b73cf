"""What a strategy asks of local training is read from the user's config, and checked."""

import math

import pytest
from flwr.app import ConfigRecord, RecordDict

from caafp_app.errors import ProtocolError
from caafp_app.protocol.objective import DUAL_WEIGHT, HELD_OUT, option


def test_it_is_found_in_whichever_record_the_user_has() -> None:
    records = RecordDict({"mine": ConfigRecord()})
    assert option(records, DUAL_WEIGHT) == 0.0
    records["other"] = ConfigRecord({DUAL_WEIGHT: 2})
    assert option(records, DUAL_WEIGHT) == 2.0


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, "1", [1.0]])
def test_what_is_no_weight_is_refused(value: object) -> None:
    records = RecordDict({"config": ConfigRecord({DUAL_WEIGHT: value})})  # type: ignore[dict-item]
    with pytest.raises(ProtocolError, match=r"'dual-weight': expected a number of at least 0"):
        option(records, DUAL_WEIGHT)


def test_a_share_has_a_largest_value() -> None:
    records = RecordDict({"config": ConfigRecord({HELD_OUT: 0.6})})
    assert option(records, HELD_OUT) == 0.6
    with pytest.raises(ProtocolError, match=r"expected a number from 0 to 0\.5, found 0\.6"):
        option(records, HELD_OUT, most=0.5)
