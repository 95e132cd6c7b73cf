import json
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.runs.ledger import Ledger, Traffic
from caafp_app.runs.size import message_bytes

MakeMessage = Callable[..., Message]

entries = st.lists(
    st.tuples(
        st.sampled_from(["down", "up"]),
        st.sampled_from(["warm-up", "prune"]),
        st.integers(1, 4),
        st.integers(0, 50),
    ),
    max_size=20,
)


@given(entries=entries)
@settings(deadline=None, max_examples=50)
def test_every_view_sums_to_the_messages(
    message: MakeMessage, entries: list[tuple[str, str, int, int]]
) -> None:
    ledger, rows = Ledger(), []
    for direction, phase, number, length in entries:
        record = ArrayRecord({"values": Array(np.arange(length, dtype="f4"))})
        sent = message(RecordDict({"caafp.arrays": record, "m": MetricRecord({"a": length})}))
        size = ledger.record(direction, phase, sent, round=number)  # type: ignore[arg-type]
        assert size == sum(message_bytes(sent).values())
        rows.append((direction, phase, number, size))

    def total(**where: object) -> int:
        keys = ("direction", "phase", "round")
        return sum(
            row[3]
            for row in rows
            if all(row[keys.index(key)] == value for key, value in where.items())
        )

    summary = ledger.summary()
    assert summary["total"] == ledger.total == total()
    assert ledger.messages == len(rows)
    for way in ("down", "up"):
        assert summary[way] == total(direction=way) == sum(summary["by_kind"][way].values())
        for phase, part in summary["by_phase"].items():
            assert part[way] == total(direction=way, phase=phase)
        assert sum(part[way] for part in summary["by_phase"].values()) == summary[way]

    copy = Ledger()
    copy.restore(json.loads(json.dumps(ledger.state())))
    assert copy.summary() == summary
    assert copy.state() == ledger.state()


def test_formula_is_the_authors_figure() -> None:
    # UCI HAR: 89 254 parameters, 10 clients, 30 dense and 20 sparse rounds: 265.6 MB of 2^20.
    ledger = Ledger()
    for density in [1.0] * 30 + [0.3] * 20:
        ledger.add_formula(89_254, density, messages=2 * 10)
    ledger.add_formula(89_254, 1.0, messages=2 * 30)  # the clustering exchange asks all 30
    expected = 89_254 * 4 * (20 * (30 + 20 * 0.3) + 60)
    assert ledger.formula_total == round(expected)
    assert ledger.formula_total / 2**20 == pytest.approx(265.6, rel=0.01)


def test_kinds_are_bounded_and_bytes_kept() -> None:
    traffic = Traffic()
    for number in range(1000):
        traffic.add("up", {f"k{number}": 2})
    assert len(traffic.kinds["up"]) == 65
    assert traffic.up == 2000
    assert traffic.kinds["up"]["unlisted"] == 2 * (1000 - 64)
