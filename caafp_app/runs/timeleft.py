"""How long a run will still take, from how long its rounds took."""

from collections.abc import Sequence
from statistics import fmean
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
        self._seconds: dict[str, list[float]] = {phase: [] for _, phase in self._plan}

    def add(self, phase: str, seconds: float) -> None:
        """Note that a round of `phase` took `seconds`."""
        if phase in self._seconds:
            self._seconds[phase].append(seconds)

    def after(self, round: int) -> float | None:
        """Return the seconds that the rounds after `round` will take; None if nothing is known."""
        rounds = [seconds for took in self._seconds.values() for seconds in took]
        if not rounds:
            return None
        left = (self._seconds[phase] for number, phase in self._plan if number > round)
        return sum(fmean(took or rounds) for took in left)
