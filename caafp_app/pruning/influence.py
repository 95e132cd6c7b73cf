"""How far one client can move a model: one rule for every sum of a round.

The rule has three parts. The norm of each vector that a client sends is at most `NORM_FACTOR` times
the median norm of such vectors; a longer one is *scaled down*, not refused. The weight of a client
in a mean is at most `WEIGHT_FACTOR` times the median weight. An update that points against those of
most others, where these agree, weighs nothing in its round: see `pruning.opposed`. Together they
bound a client's share of every sum. An honest run never ends because of the rule.

Both medians are of the last `RECENT` rounds, so that the order in which replies arrive decides
nothing. Where there is no earlier round, replies are held until the medians of this round are
known.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from caafp_app.errors import ProtocolError
from caafp_app.pruning.bounds import middle, shrink

NORM_FACTOR = 2.0
"""A vector is at most so many times as long as the median one."""

WEIGHT_FACTOR = 2.0
"""A client weighs at most so many times the median client.

The two multiply. Smaller ones cost honest clients with unequal data accuracy; with 3 and 3, three
liars of ten that stay just unopposed cost up to 38 points, with 2 and 2 up to 5
(`benchmarks/attacks.py`, seeds 11 to 13).
"""

RECENT = 5
"""Rounds that the medians are taken over."""

ENOUGH = 3
"""A group with fewer known norms than this uses those of all groups."""

HOLD_BYTES = 256 << 20
"""Bytes of replies that are held in a round without an earlier one."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Admitted(Generic[Item]):
    """A reply that waits, or can be added to the sums of its round.

    `item` is what the caller gave to `Influence.offer`. Once it is admitted `weight` is capped, and
    `factors`, of at most 1, are what to multiply each of its vectors with.
    """

    group: int
    label: str
    norms: Mapping[str, float]
    weight: float
    item: Item
    factors: Mapping[str, float] = field(default_factory=dict)

    @property
    def clipped(self) -> bool:
        """Whether a vector of it is scaled down."""
        return min(self.factors.values(), default=1.0) < 1.0


class Influence(Generic[Item]):
    """The rule's state: norms and weights of the last rounds, and replies that wait.

    A runner calls `offer` for each reply that passed its checks, adds what comes back to its sums,
    calls `release` when no more replies come and adds that too, and calls `end_round`.

    **What is held.** A reply is held while no earlier round had a vector of one of its names.
    The held replies are released together by `release`, with the medians of this round, so
    their order does not matter. If they exceed `HOLD_BYTES` (and are `ENOUGH`), the medians are
    settled from those that are there, which then depend on who was first, and nothing is held
    any more in this round. So memory is at most `HOLD_BYTES` and one reply, or `ENOUGH` replies.

    **When the bound is wrong.** If more than half of a group's replies of a round are clipped
    (of `ENOUGH` or more), the clients' learning changed, for instance by a higher learning
    rate. The norms of that round then replace all earlier ones of the group.

    Parameters
    ----------
    norm_factor, weight_factor : float
        See `NORM_FACTOR` and `WEIGHT_FACTOR`; 0: no bound.
    """

    def __init__(
        self,
        norm_factor: float = NORM_FACTOR,
        weight_factor: float = WEIGHT_FACTOR,
    ) -> None:
        self.norm_factor = norm_factor
        self.weight_factor = weight_factor
        # By name of the vector and group: the norms of each of the last rounds.
        self._norms: dict[tuple[str, int], deque[list[float]]] = {}
        self._weights: deque[list[float]] = deque(maxlen=RECENT)
        self._norms_now: dict[tuple[str, int], list[tuple[float, bool]]] = {}
        self._weights_now: list[float] = []
        self._held: list[Admitted[Item]] = []
        self._held_bytes = 0
        self._usual: dict[tuple[str, int], float] = {}
        self._usual_of: dict[str, float] = {}
        self._usual_weight = 0.0

    def offer(
        self,
        group: int,
        label: str,
        norms: Mapping[str, float],
        weight: float,
        item: Item,
        nbytes: int,
    ) -> Sequence[Admitted[Item]]:
        """Take a reply, and return those that can be added now: it, none, or all held ones.

        `norms` are of each of the client's vectors, by a name such as ``values``; vectors of other
        kinds need names of their own, being of other sizes. `item` is handed back with the factors,
        and takes `nbytes` of memory while it is held.

        Raises ProtocolError if a norm is not finite, or the weight is not a positive number.
        Nothing is noted then.
        """
        for name, norm in norms.items():
            if not (math.isfinite(norm) and norm >= 0):
                raise ProtocolError(f"expected {name} of finite norm, found {norm}")
        if not (math.isfinite(weight) and weight > 0):
            raise ProtocolError(f"expected a weight above 0, found {weight}")
        reply = Admitted(group, label, norms, weight, item)
        if self._knows(norms):
            return [self._admit(reply)]
        self._held.append(reply)
        self._held_bytes += nbytes
        if self._held_bytes > HOLD_BYTES and len(self._held) >= ENOUGH:
            return self.release()
        return []

    def release(self) -> Sequence[Admitted[Item]]:
        """Return the replies that are still held, in the order of their labels."""
        if not self._held:
            return []
        grouped: dict[tuple[str, int], list[float]] = {}
        for reply in self._held:
            for name, norm in reply.norms.items():
                grouped.setdefault((name, reply.group), []).append(norm)
        usual_of, usual = _medians(grouped)
        self._usual_of, self._usual = usual_of | self._usual_of, usual | self._usual
        self._usual_weight = self._usual_weight or middle([r.weight for r in self._held])
        held, self._held, self._held_bytes = self._held, [], 0
        return [self._admit(reply) for reply in sorted(held, key=lambda reply: reply.label)]

    def end_round(self) -> None:
        """Settle the bounds of the next round."""
        for key, told in self._norms_now.items():
            recent = self._norms.setdefault(key, deque(maxlen=RECENT))
            if len(told) >= ENOUGH and 2 * sum(clipped for _, clipped in told) > len(told):
                recent.clear()  # the bound was wrong
            recent.append(sorted(norm for norm, _ in told))
        if self._weights_now:
            self._weights.append(sorted(self._weights_now))
        self._norms_now, self._weights_now = {}, []
        self._settle()

    def state(self) -> dict[str, Any]:
        """Return what earlier rounds taught, JSON-able; call it between rounds."""
        return {
            "norms": [
                [name, group, [list(part) for part in recent]]
                for (name, group), recent in sorted(self._norms.items())
            ],
            "weights": [list(part) for part in self._weights],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""
        self._norms = {
            (str(name), int(group)): deque(_floats(recent), maxlen=RECENT)
            for name, group, recent in state["norms"]
        }
        self._weights = deque(_floats(state["weights"]), maxlen=RECENT)
        self._settle()

    def _knows(self, norms: Mapping[str, float]) -> bool:
        norms_known = not self.norm_factor or all(name in self._usual_of for name in norms)
        return bool(norms_known and (not self.weight_factor or self._usual_weight))

    def _admit(self, reply: Admitted[Item]) -> Admitted[Item]:
        factors = {}
        for name, norm in reply.norms.items():
            key = name, reply.group
            factors[name] = shrink(norm, self._longest(key))
            self._norms_now.setdefault(key, []).append((norm, factors[name] < 1))
        self._weights_now.append(reply.weight)
        most = self.weight_factor * self._usual_weight if self.weight_factor else math.inf
        return replace(reply, weight=min(reply.weight, most), factors=factors)

    def _longest(self, key: tuple[str, int]) -> float:
        usual = self._usual.get(key, self._usual_of.get(key[0], 0.0))
        # Where nobody had anything to learn so far there is no median to go by.
        return self.norm_factor * usual if self.norm_factor and usual else math.inf

    def _settle(self) -> None:
        self._usual_of, self._usual = _medians(
            {key: [norm for part in recent for norm in part] for key, recent in self._norms.items()}
        )
        self._usual_weight = middle([weight for part in self._weights for weight in part])


def _medians(
    grouped: Mapping[tuple[str, int], Sequence[float]],
) -> tuple[dict[str, float], dict[tuple[str, int], float]]:
    """Return the median norm of each kind of vector, and that of each group that has enough."""
    found: dict[str, list[float]] = {}
    for (name, _), norms in grouped.items():
        found.setdefault(name, []).extend(norms)
    of_group = {key: middle(norms) for key, norms in grouped.items() if len(norms) >= ENOUGH}
    return {name: middle(norms) for name, norms in found.items()}, of_group


def _floats(rounds: Iterable[Iterable[Any]]) -> list[list[float]]:
    return [[float(value) for value in part] for part in rounds]
