"""Who takes part: clients by their stable labels, and the node each is reached at.

Node ids are random and change when a SuperNode comes back; everything is kept by label.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caafp_app.protocol.identity import Identities
from caafp_app.protocol.messages import Answer


@dataclass
class Client:
    """What the server knows of one client.

    `examples` and `cluster` are -1 while unknown; `node` is the one that answered to the label
    last. `held` and `model` are digests of the mask that it holds and of the packed model that it
    keeps (see `Request.model`), as far as known; empty: not even the layout. It failed in
    `failures` exchanges in a row, and rests until round `rests_until` (see `health`); it is
    `silent` if it did not answer when it was last asked, and was out of reach for `absent` rounds
    in a row. Of the network it can take the share `strength`, as it says. Where a round has a
    deadline it can train the share `pace` in time: its last training took `took` seconds for a part
    of `size` parameters, and its seconds grow with size to the power of `growth`.
    """

    label: str
    node: int
    examples: int = -1
    cluster: int = -1
    held: str = ""
    model: str = ""
    failures: int = 0
    rests_until: int = -1
    silent: bool = False
    absent: int = 0
    strength: float = 1.0
    pace: float = 1.0
    took: float = 0.0
    size: float = 0.0
    growth: float = 1.0


GONE_AFTER = 20
"""Rounds out of reach after which a client is no member of its cluster until it comes back."""

NOWHERE = 0
"""The node of a client that is known from before and has not come back yet; no node's id."""

_KEPT: dict[str, Any] = {
    **dict.fromkeys(("examples", "cluster", "failures", "rests_until", "absent"), int),
    **dict.fromkeys(("pace", "took", "size", "growth"), float),
}
"""What a checkpoint keeps of a client, and its types."""


class Roster:
    """Clients by label and by node."""

    def __init__(self, identities: Identities | None = None) -> None:
        self.identities = identities or Identities()
        self.clients: dict[str, Client] = {}
        self.kept_out: dict[str, Client] = {}
        self.idle: dict[int, str] = {}
        self.population = -1
        self._label_of: dict[int, str] = {}
        self._reachable: set[int] = set()
        self._waiting: dict[int, str] = {}

    def unknown(self, nodes: Iterable[int]) -> list[int]:
        """Nodes to be asked who they are: new ones, and those whose label has become free."""
        return [
            n
            for n in nodes
            if n not in self._label_of and (n not in self.idle or self._free(self._waiting.get(n)))
        ]

    def _free(self, label: str | None) -> bool:
        """Whether the node that has this label is gone, or does not answer any more."""
        known = self.known(label) if label is not None else None
        return known is not None and (known.node not in self._reachable or known.silent)

    def enrol(self, node: int, answer: Answer, run: int = 0) -> str:
        """Take a description in; return why the node takes no part, or an empty text.

        `run` is that of the message, which a signed label names too: see `Identities`.
        """
        if answer.population >= 0:
            self.population = max(self.population, answer.population)
        if answer.idle:
            self.idle[node] = answer.idle
            return answer.idle
        known = self.known(answer.label)
        if known is not None and known.node != node and not self._free(answer.label):
            reason = f"two nodes call themselves {answer.label!r}; give each a label of its own"
            self.idle[node] = reason
            # A device that was registered anew comes back before its old node is given up.
            self._waiting[node] = answer.label
            return reason
        if reason := self.identities.admit(answer.label, answer.proof, run, node):
            self.idle[node] = reason
            return reason
        if known is None:
            known = self.clients[answer.label] = Client(answer.label, node, answer.examples)
        else:
            self._label_of.pop(known.node, None)
            known.node, known.examples, known.held, known.model = node, answer.examples, "", ""
            known.failures, known.rests_until, known.silent, known.absent = 0, -1, False, 0
        known.strength = answer.strength
        self.idle.pop(node, None)
        self._waiting.pop(node, None)
        self._label_of[node] = answer.label
        return ""

    def keep_out(self, labels: Iterable[str]) -> None:
        """Let no round, group or mean have these clients; they can be asked by `kept_out`."""
        for label in labels:
            self.kept_out[label] = self.clients.pop(label)

    def meet(self, nodes: Iterable[int]) -> None:
        """Note which nodes can be reached now; who can is not absent any more."""
        self._reachable = set(nodes)
        for client in self.reachable():
            client.absent = 0

    def count_round(self) -> None:
        """Count the round that begins for those who cannot be reached; once a round."""
        for client in self.clients.values():
            client.absent += client.node not in self._reachable

    def reachable(self) -> list[Client]:
        """Clients that can be reached now, sorted by label."""
        return sorted(
            (c for c in self.clients.values() if c.node in self._reachable), key=lambda c: c.label
        )

    def at(self, node: int) -> Client | None:
        """Return the client at a node."""
        label = self._label_of.get(node)
        return None if label is None else self.known(label)

    def known(self, label: str) -> Client | None:
        """Return the client of a label, whether it takes part or is kept out."""
        return self.clients.get(label) or self.kept_out.get(label)

    def clusters(self) -> dict[int, list[Client]]:
        """Clients by cluster, each list sorted by label; without those that left for good."""
        groups: dict[int, list[Client]] = {}
        for client in sorted(self.clients.values(), key=lambda c: c.label):
            if client.absent < GONE_AFTER:
                groups.setdefault(client.cluster, []).append(client)
        return dict(sorted(groups.items()))

    def state(self) -> dict[str, Any]:
        """Return what is known of the clients by label, JSON-able; nodes are of one run alone."""
        return {
            "population": self.population,
            "kept_out": sorted(self.kept_out),
            "keys": self.identities.state(),
            "clients": {
                label: {name: getattr(client, name) for name in _KEPT}
                for label, client in sorted(self.clients.items())
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned; the clients are out of reach until they are enrolled."""
        self.population = int(state["population"])
        self.identities.restore(state["keys"])
        self.kept_out = {label: Client(label, NOWHERE) for label in state.get("kept_out", ())}
        self.clients = {
            label: Client(
                label, NOWHERE, **{n: kind(known[n]) for n, kind in _KEPT.items() if n in known}
            )
            for label, known in state["clients"].items()
        }


def sample(
    clients: Sequence[Client], count: int, rng: np.random.Generator, floor: int = 0
) -> list[Client]:
    """Draw `count` clients, or all, without replacement, sorted by label.

    At least `floor` of each cluster (or all of a smaller one) are drawn, as far as `count` allows.
    `clients` are sorted by label, so that the draw depends on nothing but the generator.
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
