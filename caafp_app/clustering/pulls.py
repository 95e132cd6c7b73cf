"""Which other cluster's model a client's own training leads to.

A training step goes down the client's loss, so an update u from its cluster's model w_k tells to
first order how another model w_j would serve the client: better where ``u . (w_j - w_k) > 0``. The
cosine of the two is the client's pull towards cluster j. It costs no byte, and needs no metric. A
client where it belongs is led away from the others', because its cluster still goes its own way.
Two halves of one group are hardly led away from each other's model.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

MARGIN = 0.05
"""How far a pull has to be above 0, and above that of the client's mates, to count."""
IN_A_ROW = 2
"""Rounds of a client in a row that have to agree."""
REMEMBERED = 20
"""Rounds for which it is remembered which cluster a client has left, and why."""
ALIKE_IN_A_ROW = 5
"""Rounds in a row in which two clusters have to be alike."""

Pulls = Mapping[int, float]
"""A client's pull towards each other cluster, by number, in [-1, 1]."""


def pulls_of(
    update: NDArray[np.floating],
    own: NDArray[np.floating],
    others: Iterable[tuple[int, NDArray[np.floating]]],
) -> dict[int, float]:
    """Return how an update [n] from model `own` [n] leads towards each of the others [n].

    ``cos(update, other - own) - 1 / sqrt(n)``: less what a random direction may give. 0 where one
    of both is zero.
    """
    found = {}
    length, chance = float(np.linalg.norm(update)), 1 / np.sqrt(max(len(update), 1))
    for number, other in others:
        way = other.astype(np.float64) - own
        product = length * float(np.linalg.norm(way))
        found[number] = float(update @ way / product - chance) if product > 0 else 0.0
    return found


@dataclass
class PullBook:
    """The last pulls of each client of a cluster, and what has been seen in a row.

    `last` has pulls by label; `clients`, where a client is led to and how often in a row; `pairs`,
    how often in a row two clusters were alike; `left`, which clusters a client has left, by which
    pull and in which round: it does not return for less, and so does not go to and fro.
    """

    last: dict[str, dict[int, float]] = field(default_factory=dict)
    clients: dict[str, tuple[int, int]] = field(default_factory=dict)
    pairs: dict[tuple[int, int], int] = field(default_factory=dict)
    left: dict[str, dict[int, tuple[float, int]]] = field(default_factory=dict)
    round: int = 0

    def note(self, members: Mapping[int, Sequence[str]], fresh: Mapping[str, Pulls]) -> None:
        """Take a round's pulls in; `members` are all clients by cluster."""
        self.round += 1
        for label, pulls in fresh.items():
            self.last[label] = dict(pulls)
        for labels in members.values():
            for label in fresh.keys() & labels:
                target = self._leads(label, labels)
                before, count = self.clients.pop(label, (-1, 0))
                if target is not None:
                    self.clients[label] = target, 1 + count * (before == target)
        for pair in combinations(sorted(members), 2):
            if all(fresh.keys() & members[number] for number in pair):
                count = self.pairs.pop(pair, 0)
                if self._alike(members, *pair):
                    self.pairs[pair] = count + 1

    def moves(self) -> dict[str, int]:
        """Return who is to move, and where to."""
        return {k: to for k, (to, count) in sorted(self.clients.items()) if count >= IN_A_ROW}

    def leave(self, label: str, before: int, after: int) -> float:
        """Note that a client goes from one cluster to another; return the pull that it follows."""
        pull = self.last[label][after]
        self.left.setdefault(label, {})[before] = pull, self.round
        return pull

    def merges(self) -> list[tuple[int, int]]:
        """Return the pairs of clusters that are to be one, in order."""
        return sorted(pair for pair, count in self.pairs.items() if count >= ALIKE_IN_A_ROW)

    def forget(self, labels: Iterable[str], clusters: Iterable[int]) -> None:
        """Forget clients that have another cluster now, and how models that are others pulled."""
        gone = set(clusters)
        for label in labels:
            self.last.pop(label, None)
            self.clients.pop(label, None)
        for pulls in self.last.values():
            for number in gone:
                pulls.pop(number, None)
        self.clients = {k: v for k, v in self.clients.items() if v[0] not in gone}
        self.pairs = {pair: n for pair, n in self.pairs.items() if not gone & set(pair)}

    def _leads(self, label: str, labels: Sequence[str]) -> int | None:
        """Return where a client is led to, more than its mates: they may lag behind together."""
        pulls = self.last[label]
        left = self.left.get(label, {})
        for number, (pull, round_) in left.items():
            if self.round - round_ <= REMEMBERED and pulls.get(number, pull) <= pull:
                pulls = {other: its for other, its in pulls.items() if other != number}
        if not pulls:
            return None
        target = max(sorted(pulls), key=lambda number: pulls[number])
        mates = self._towards((one for one in labels if one != label), target)
        usual = max(sum(mates) / len(mates), 0.0) if mates else 0.0
        return target if pulls[target] > usual + MARGIN else None

    def _alike(self, members: Mapping[int, Sequence[str]], first: int, second: int) -> bool:
        """Tell whether the middle members of both are hardly led away from the other's model."""
        there = self._towards(members[first], second)
        back = self._towards(members[second], first)
        return bool(there and back) and median(there) + median(back) > -2 * MARGIN

    def _towards(self, labels: Iterable[str], number: int) -> list[float]:
        known = (self.last.get(label, {}) for label in labels)
        return [pulls[number] for pulls in known if number in pulls]

    def to_json(self) -> dict[str, Any]:
        """Return it for a checkpoint; the inverse of `from_json`."""
        return {
            "last": {k: sorted(v.items()) for k, v in sorted(self.last.items())},
            "clients": {k: list(v) for k, v in sorted(self.clients.items())},
            "pairs": [[*pair, count] for pair, count in sorted(self.pairs.items())],
            "left": {k: [[n, *v] for n, v in left.items()] for k, left in self.left.items()},
            "round": self.round,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "PullBook":
        """Take it up again."""
        return cls(
            {k: {int(n): float(pull) for n, pull in v} for k, v in told["last"].items()},
            {k: (int(to), int(count)) for k, (to, count) in told["clients"].items()},
            {(int(a), int(b)): int(count) for a, b, count in told["pairs"]},
            {
                k: {int(n): (float(pull), int(round_)) for n, pull, round_ in left}
                for k, left in told["left"].items()
            },
            int(told["round"]),
        )
