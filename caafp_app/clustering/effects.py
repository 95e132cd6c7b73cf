"""What of a client's updates is the client's, and what is the round's.

A round's updates share the way that all go from its weights, and a client is in some rounds only.
So each update's direction is taken for the sum of a part of its round and a part of its client, as
in an analysis of variance with two ways; least squares finds both from sums by round and by client.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.floating]


@dataclass
class Effects:
    """Sums of the directions of updates of `length` values, by client and by round.

    `members` were in each round. A checkpoint keeps the fields as they are.
    """

    length: int
    clients: dict[str, Vector] = field(default_factory=dict)
    rounds: list[Vector] = field(default_factory=list)
    members: list[list[str]] = field(default_factory=list)

    def __len__(self) -> int:
        """Return how many clients have been seen."""
        return len(self.clients)

    def add(self, updates: Mapping[str, NDArray[np.floating]]) -> None:
        """Add a round's updates [length], by client; their length does not count."""
        if not updates:
            return
        directions = {label: unit(updates[label]) for label in sorted(updates)}
        total = np.zeros(self.length, dtype=np.float32)
        for label, direction in directions.items():
            total += direction
            self.clients[label] = self.clients.get(label, np.float32(0)) + direction
        self.rounds.append(total)
        self.members.append(list(directions))

    def fit(self) -> tuple[list[str], Vector, Vector]:
        """Return the clients seen, their parts [n, length] with mean 0, and the last round's part.

        A client of no other round's company is compared within its own rounds alone.
        """
        labels = sorted(self.clients)
        index = {label: row for row, label in enumerate(labels)}
        present = np.zeros((len(labels), len(self.members)))
        for column, members in enumerate(self.members):
            present[[index[label] for label in members], column] = 1.0
        share = present / present.sum(axis=1, keepdims=True)  # each client's rounds, adding to 1
        means = np.stack([self.clients[label] for label in labels]).astype(np.float64)
        means /= present.sum(axis=1, keepdims=True)
        # The clients' parts are their means less those of their rounds; put into the rounds' own
        # equations, that leaves a system as large as there are rounds.
        system = np.diag(present.sum(axis=0)) - present.T @ share
        rounds = np.linalg.pinv(system) @ (np.stack(self.rounds) - present.T @ means)
        parts = means - share @ rounds
        middle = parts.mean(axis=0)
        return labels, parts - middle, rounds[-1] + middle


def unit(update: NDArray[np.floating]) -> Vector:
    """Return the direction of an update, float32; zeros of one that points nowhere."""
    norm = float(np.linalg.norm(update.astype(np.float64)))
    return (update / norm if norm > 0 else update).astype(np.float32)
