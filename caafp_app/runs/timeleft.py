"""How long a run will still take, from how long its rounds took."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol


class RoundPlanLike(Protocol):
    """One planned round, as far as this package looks at it."""

    @property
    def round(self) -> int:
        """Number of the round, from 1."""

    @property
    def phase(self) -> str:
        """Name of its phase."""

    @property
    def mask_update(self) -> bool:
        """Whether masks change at its end."""

    @property
    def sparsity(self) -> float | None:
        """Target sparsity after it; None or 0 while dense."""


class TimeLeft:
    """Estimates the time left by the mean duration of the rounds of each phase so far.

    A phase of which no round has ended yet is taken to be as quick as the mean of all rounds.
    Exchanges outside the plan do not count: the first one waits for clients to start.
    """

    def __init__(self, plan: Sequence[RoundPlanLike] = ()) -> None:
        self._plan = [(entry.round, str(entry.phase)) for entry in plan]
        self._phases = {phase for _, phase in self._plan}
        self._seconds: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, phase: str, seconds: float) -> None:
        """Note that a round of `phase` took `seconds`."""
        if phase in self._phases:
            total = self._seconds[str(phase)]
            total[0] += seconds
            total[1] += 1

    def after(self, round: int) -> float | None:
        """Return the seconds that the rounds after `round` will take; None if nothing is known."""
        seconds = sum(total for total, _ in self._seconds.values())
        count = sum(count for _, count in self._seconds.values())
        if not count:
            return None
        mean = seconds / count
        left = [phase for number, phase in self._plan if number > round]
        return sum(self._phase_mean(phase, mean) for phase in left)

    def _phase_mean(self, phase: str, default: float) -> float:
        if phase not in self._seconds:
            return default
        total, count = self._seconds[phase]
        return total / count
