"""Levels chosen by a deadline: a device that is too slow for a round is given a smaller part.

The rule is that of hierarchical wireless pruning (arXiv 2305.09042), without its aggregators
between devices and server: how dense a device's model is follows from what its computing and its
link take, and from how long a round may take.
"""

import math
from collections.abc import Mapping, Sequence
from logging import INFO

from flwr.common.logger import log

from caafp_app.pruning.levels import level_of
from caafp_app.runner.roster import Client
from caafp_app.runner.runner import Answers

ROOM = 0.8
"""A device goes up a level only where that is expected to take at most so much of the deadline."""

_LONGEST = 1e7
_APART = 1.2
_FADES = 0.97


def choose_level(
    seconds: float, level: int, sizes: Sequence[float], deadline: float, growth: float = 1.0
) -> int:
    """Return the widest level that a device can train in time, judged by its last training.

    Law: ``t_m = seconds (size_m / size_level)^growth`` for level m; `sizes` falls. A level at least
    as narrow as the device's own has to keep to the deadline, a wider one to `ROOM` of it: so a
    device near the border does not change with every round. Where none does, it is the narrowest.
    """
    for wider, size in enumerate(sizes):
        expected = seconds * (size / sizes[level]) ** growth
        if expected <= deadline * (ROOM if wider < level else 1.0):
            return wider
    return len(sizes) - 1


def growth_of(client: Client, seconds: float, size: float) -> float:
    """Return the power of size that a device's seconds grow with, by its last two trainings.

    Bytes grow with the parameters, a convolution's work with more, at most with their square. So it
    is between 1 and 2. It is seen when a part has become larger: a device whose part has become
    smaller may only have been busy before. Then it fades, for the device may have been busy then.
    """
    if not client.took or size < _APART * client.size:
        return 1.0 + _FADES * (client.growth - 1.0)
    found = math.log(seconds / client.took) / math.log(size / client.size)
    return min(max(found, 1.0), 2.0)


def set_paces(
    deadline: float, shares: Sequence[float], answers: Answers, sizes: Mapping[int, Sequence[float]]
) -> None:
    """Judge who has trained in a round, and change their `Client.pace`.

    `shares` are those of the levels, `sizes` how large their parts are, by cluster.
    """
    taken = {}
    metrics = answers.tally.metrics()
    for summed in answers.summed:
        level, group = summed.query.level, summed.query.group
        for client in summed.query.clients:
            seconds = _seconds(metrics.get(client.label, {}), client.label, answers)
            if not seconds:
                continue
            taken[client.label] = seconds
            # A device is the judge of its own memory: what it says is not exceeded.
            widest = level_of(shares, client.strength)
            size = sizes[group][level]
            client.growth = growth_of(client, seconds, size)
            client.took, client.size = seconds, size
            chosen = choose_level(seconds, level, sizes[group], deadline, client.growth)
            new = max(chosen, widest)
            client.pace = shares[new]
            if new != level:
                what = "%s: level %g becomes %g, its round took %.3g s of %.3g"
                log(INFO, what, client.label, shares[level], shares[new], seconds, deadline)
    if taken:
        slowest = max(taken, key=lambda label: (taken[label], label))
        what = "round %d: the slowest device took %.3g s: %s"
        log(INFO, what, answers.tally.round, taken[slowest], slowest)


def _seconds(metrics: Mapping[str, object], label: str, answers: Answers) -> float:
    """Return computing and link of one client; 0 where it does not say."""
    compute, link = (metrics.get(f"{name}-seconds", math.nan) for name in ("compute", "link"))
    if not isinstance(compute, int | float) or not 0 < compute < _LONGEST:
        return 0.0
    if isinstance(link, int | float) and 0 <= link < _LONGEST:
        return float(compute + link)
    return max(answers.tally.seconds.get(label, 0.0), float(compute))
