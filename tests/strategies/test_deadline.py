"""Which level a device is given by how long its rounds take."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.strategies.deadline import ROOM, choose_level
from tests.strategies.support import Run, run

SIZES = (100.0, 40.0, 10.0)


@pytest.mark.parametrize(
    ("seconds", "level", "expected"),
    [
        (5.0, 0, 0),  # in time
        (12.0, 0, 1),  # 4.8 at the next one
        (60.0, 0, 2),
        (500.0, 0, 2),  # never in time: the narrowest
        (3.0, 1, 0),  # 7.5 at the wider one: room enough
        (3.9, 1, 1),  # 9.75 would be in time, but near the border
        (0.7, 2, 0),
    ],
)
def test_the_widest_level_in_time(seconds: float, level: int, expected: int) -> None:
    assert choose_level(seconds, level, SIZES, 10.0) == expected


@given(
    work=st.floats(0.01, 100.0),
    deadline=st.floats(0.1, 50.0),
    level=st.integers(0, 2),
    drift=st.floats(1.0, 1.0 / ROOM, exclude_max=True),
)
def test_a_device_of_one_speed_comes_to_rest(
    work: float, deadline: float, level: int, drift: float
) -> None:
    """And what is a little slower or faster than last time does not go up and down again."""
    for _ in range(2):
        level = choose_level(work * SIZES[level], level, SIZES, deadline)
    assert choose_level(work * SIZES[level], level, SIZES, deadline) == level
    slower = choose_level(work * drift * SIZES[level], level, SIZES, deadline)
    assert choose_level(work * SIZES[slower], slower, SIZES, deadline) in (slower, level)
    assert slower >= level


def slowest(ended: str) -> list[float]:
    return [float(s) for s in re.findall(r"slowest device took ([\d.e+-]+) s", ended)]


def test_slow_devices_of_a_simulation_get_less_until_rounds_keep_to_the_deadline(
    caplog: pytest.LogCaptureFixture,
) -> None:
    changes: dict[str, Any] = {
        "granularity": "filter",
        "sparsity": 0.5,
        "clients-per-round": 6,
        "clusters": 1,
    }

    def ended(levels: str, deadline: float) -> tuple[Run, list[float], str]:
        caplog.clear()
        found = run({**changes, "levels": levels, "deadline": deadline})
        return found, slowest(caplog.text), caplog.text

    _, full, _ = ended("1", 1.0)
    deadline = 0.3 * full[0]  # the strong third takes a quarter of the weak third's seconds
    result, found, text = ended("1,0.5,0.25", deadline)
    assert len(found) == len(full) == 8
    assert found[0] == full[0]  # nothing is known before the first round
    assert max(found[1:]) <= deadline < min(full)
    assert "level 1 becomes 0.25" in text
    report = result.result.report
    assert sum(found) <= 0.6 * sum(full)
    left = [round(1 - (client.personal_sparsity or 0.0), 3) for client in report.clients]
    assert len(set(left)) > 1


def test_without_a_deadline_nobody_says_how_long_it_took() -> None:
    found = run({"prune-rounds": 0, "cluster-rounds": 0, "sparsity": 0.0})
    assert not any("seconds" in str(m) for m in found.result.train_metrics_clientapp.values())
