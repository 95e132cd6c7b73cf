"""Which level a device is given by how long its rounds take."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.runner.roster import Client
from caafp_app.strategies.deadline import ROOM, choose_level, growth_of
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


def levels_of(client: Client, deadline: float, seconds: Callable[[int, int], float]) -> list[int]:
    """Return a device's levels in thirty trainings; `seconds` is of a training and its level."""
    levels = [0]
    for number in range(30):
        level = levels[-1]
        took = seconds(number, level)
        client.growth = growth_of(client, took, SIZES[level])
        client.took, client.size = took, SIZES[level]
        levels.append(choose_level(took, level, SIZES, deadline, client.growth))
    return levels


@given(
    power=st.floats(1.0, 2.0),
    seconds=st.floats(0.1, 1000.0),
    deadline=st.floats(0.5, 50.0),
)
def test_a_device_whose_work_grows_faster_than_its_part_seldom_goes_up_and_down(
    power: float, seconds: float, deadline: float
) -> None:
    levels = levels_of(
        Client("a", 1), deadline, lambda _, level: seconds * (SIZES[level] / SIZES[0]) ** power
    )
    assert sum(one != other for one, other in pairwise(levels)) <= 10


@pytest.mark.parametrize("busy", [0, 1, 2])
def test_a_device_that_was_busy_once_comes_back(busy: int) -> None:
    levels = levels_of(
        Client("a", 1),
        12.0,
        lambda number, level: 8.0 * SIZES[level] / SIZES[0] * (2.0 if number == busy else 1.0),
    )
    assert max(levels) == 1
    assert set(levels[-10:]) == {0}


def test_the_growth_of_seconds_is_seen_where_a_part_has_become_larger() -> None:
    client = Client("a", 1, took=36.0 * 0.4**1.5, size=40.0, growth=1.2)
    assert growth_of(client, 36.0, 100.0) == pytest.approx(1.5)
    assert growth_of(client, 360.0, 100.0) == 2.0
    assert growth_of(client, 10.0, 100.0) == 1.0
    assert 1.1 < growth_of(client, 5.0, 41.0) < 1.2
    assert 1.1 < growth_of(client, 5.0, 10.0) < 1.2


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
