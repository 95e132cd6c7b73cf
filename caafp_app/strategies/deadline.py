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
from caafp_app.runner.runner import Answers

ROOM = 0.8
"""A device goes up a level only where that is expected to take at most so much of the deadline."""

_LONGEST = 1e7


def choose_level(seconds: float, level: int, sizes: Sequence[float], deadline: float) -> int:
    """Return the widest level that a device can train in time, judged by its last training.

    Law: ``t_m = seconds size_m / size_level`` for level m; `sizes` falls. A level at least as
    narrow as the device's own has to keep to the deadline, a wider one to `ROOM` of it: so a
    device near the border does not change with every round. Where none does, it is the narrowest.
    """
    for wider, size in enumerate(sizes):
        if seconds * size / sizes[level] <= deadline * (ROOM if wider < level else 1.0):
            return wider
    return len(sizes) - 1


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
            new = max(choose_level(seconds, level, sizes[group], deadline), widest)
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
