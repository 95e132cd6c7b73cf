"""Who takes part: clients by their stable labels, and the node each is reached at.

Node ids are random and change when a SuperNode comes back; everything is kept by label.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caafp_app.protocol.messages import Answer


@dataclass
class Client:
    """What the server knows of one client.

    Attributes
    ----------
    label, node, examples
        Its name, the node that answered to it last, and its training examples (-1: unknown).
    cluster : int
        Its cluster; -1 while it has none.
    held : str
        Digest of the mask it holds, as far as known; empty: not even the layout.
    """

    label: str
    node: int
    examples: int = -1
    cluster: int = -1
    held: str = ""


class Roster:
    """Clients by label and by node."""

    def __init__(self) -> None:
        self.clients: dict[str, Client] = {}
        self.idle: dict[int, str] = {}
        self.population = -1
        self._label_of: dict[int, str] = {}
        self._reachable: set[int] = set()

    def unknown(self, nodes: Iterable[int]) -> list[int]:
        """Nodes that have not described themselves yet."""
        return [n for n in nodes if n not in self._label_of and n not in self.idle]

    def enrol(self, node: int, answer: Answer) -> str:
        """Take a description in; return why the node takes no part, or an empty text."""
        if answer.population >= 0:
            self.population = max(self.population, answer.population)
        if answer.idle:
            self.idle[node] = answer.idle
            return answer.idle
        known = self.clients.get(answer.label)
        if known is not None and known.node != node and known.node in self._reachable:
            reason = f"two nodes call themselves {answer.label!r}; give each a label of its own"
            self.idle[node] = reason
            return reason
        if known is None:
            self.clients[answer.label] = Client(answer.label, node, answer.examples)
        else:
            self._label_of.pop(known.node, None)
            known.node, known.examples, known.held = node, answer.examples, ""
        self._label_of[node] = answer.label
        return ""

    def meet(self, nodes: Iterable[int]) -> None:
        """Note which nodes can be reached now."""
        self._reachable = set(nodes)

    def reachable(self) -> list[Client]:
        """Clients that can be reached now, sorted by label."""
        return sorted(
            (c for c in self.clients.values() if c.node in self._reachable), key=lambda c: c.label
        )

    def at(self, node: int) -> Client | None:
        """Return the client at a node."""
        label = self._label_of.get(node)
        return None if label is None else self.clients[label]

    def clusters(self) -> dict[int, list[Client]]:
        """Clients by cluster, each list sorted by label."""
        groups: dict[int, list[Client]] = {}
        for client in sorted(self.clients.values(), key=lambda c: c.label):
            groups.setdefault(client.cluster, []).append(client)
        return dict(sorted(groups.items()))


def sample(
    clients: Sequence[Client], count: int, rng: np.random.Generator, floor: int = 0
) -> list[Client]:
    """Draw `count` clients without replacement, sorted by label.

    Parameters
    ----------
    clients : sequence of Client
        Sorted by label, so that the draw depends on nothing but the generator.
    count : int
        At most all are drawn.
    floor : int
        At least so many of each cluster (or all of a smaller one), as far as `count` allows.
    """
    count = min(count, len(clients))
    order = [clients[i] for i in rng.permutation(len(clients))]
    chosen: list[Client] = []
    if floor:
        taken: dict[int, int] = {}
        for client in order:
            if taken.get(client.cluster, 0) < floor and len(chosen) < count:
                taken[client.cluster] = taken.get(client.cluster, 0) + 1
                chosen.append(client)
    picked = {client.label for client in chosen}
    chosen += [c for c in order if c.label not in picked][: count - len(chosen)]
    return sorted(chosen, key=lambda c: c.label)


def generator(seed: int, round: int, purpose: str) -> np.random.Generator:
    """Return the generator of one purpose in one round; there is no state to save or lose."""
    return np.random.default_rng([seed, round, zlib.crc32(purpose.encode())])


def weights_by_examples(clusters: Mapping[int, Sequence[Client]]) -> dict[int, float]:
    """Share of each cluster in the training examples of all; equal shares if unknown."""
    totals = {k: float(sum(max(c.examples, 1) for c in cs)) for k, cs in clusters.items()}
    whole = sum(totals.values()) or 1.0
    return {k: total / whole for k, total in totals.items()}
