"""Groups that go on changing: clients move, clusters split and merge.

All by the updates that rounds bring anyway, and without a byte more:

- a client *moves* when its own training leads to another cluster's model, and more so than that of
  its mates, in two of its rounds in a row (`clustering.pulls`);
- two clusters *merge* when their members are hardly led away from the other's model, in five rounds
  in a row, or when one has fewer clients left than a cluster needs;
- a cluster *splits* when the test that forms groups finds the same groups among its members in two
  windows of rounds in a row (`clustering.effects`, `clustering.structure`).

The largest part of a split cluster, and the larger of two merged ones, keep their number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.clustering.effects import Effects
from caafp_app.clustering.pulls import ALIKE_IN_A_ROW, PullBook, pulls_of
from caafp_app.clustering.sketch import Sketcher, sketch_budget
from caafp_app.clustering.structure import MOST_CLUSTERS, agreement, find_structure
from caafp_app.pruning.bounds import capped
from caafp_app.runner.model import SparseModel, mean_model
from caafp_app.runner.query import Query, Update
from caafp_app.runner.roster import Client
from caafp_app.runner.runner import Answers, Runner
from caafp_app.runs.checkpoint import State
from caafp_app.runs.records import GroupChange

WINDOW = 5
"""Rounds whose updates are looked at together for groups inside a cluster."""
ALIKE = 0.8
"""Least adjusted Rand index between what two windows find."""


class Changes:
    """What the rounds say of the groups, and what follows from it.

    `linkage` and `min_size` are those of `find_structure`. `changed` are the clusters that lost
    members, or are new, since the last `decide`: what was learnt of their old members goes.
    """

    def __init__(self, seed: int, linkage: str, min_size: int) -> None:
        self.seed, self.linkage, self.min_size = seed, linkage, max(min_size, 2)
        self.changed: set[int] = set()
        self._book = PullBook()
        self._windows: dict[int, Effects] = {}
        self._rounds = 0
        self._parts: dict[int, dict[str, int]] = {}  # what the last window found, by cluster
        self._sketcher: Sketcher | None = None
        self._into: dict[int, int] = {}  # where the members of a cluster that is gone are
        self._told: list[GroupChange] = []  # since the last round

    def now(self, number: int) -> int:
        """Return what a cluster that was formed first has become: its own number, mostly."""
        while number in self._into:
            number = self._into[number]
        return number

    def watch(
        self, queries: Sequence[Query], models: Mapping[int, SparseModel], clients: int
    ) -> list[Query]:
        """Have a round's updates looked at; `clients` is how many there are in all."""
        if self._sketcher is None:
            layout = next(iter(models.values())).layout
            size = max(layout.weight_count + layout.rest_count, 1)
            self._sketcher = Sketcher(size, self.seed, sketch_budget(2 * clients))
        return [self._watched(query, models, self._sketcher) for query in queries]

    @staticmethod
    def _watched(query: Query, models: Mapping[int, SparseModel], sketcher: Sketcher) -> Query:
        mask, others = query.model.mask, [n for n in sorted(models) if n != query.group]
        own = query.model.at(mask)

        def look(update: Update) -> tuple[NDArray[Any], dict[int, float]]:
            # One other model at a time, and none kept: they may be large.
            moved = np.concatenate([update.values, update.rest]).astype(np.float64)
            ways = ((n, models[n].at(mask)) for n in others)
            pulls = pulls_of(moved, own, ways)
            whole = np.concatenate([mask.scatter(update.values), update.rest])
            return sketcher.sketch(whole if whole.size else np.zeros(1)), pulls

        return replace(query, each=look)

    def learn(self, answers: Answers, members: Mapping[int, Sequence[Client]]) -> None:
        """Take in what a round's updates say, and tell the round's record what was changed."""
        answers.tally.changes += self._told
        self._told = []
        fresh: dict[str, dict[int, float]] = {}
        for one in answers.summed:
            if not one.query.adds or not one.kept:
                continue
            fresh |= {label: pulls for label, (_, pulls) in one.kept.items()}
            rows = {label: row for label, (row, _) in one.kept.items()}
            length = len(next(iter(rows.values())))
            self._windows.setdefault(one.query.group, Effects(length)).add(rows)
        if fresh:
            labels = {n: [client.label for client in some] for n, some in members.items()}
            self._book.note(labels, fresh)
            self._rounds += 1

    def decide(self, runner: Runner, models: Mapping[int, SparseModel]) -> dict[int, SparseModel]:
        """Let clients move and clusters merge and split; return the models by cluster."""
        after, self.changed = dict(models), set()
        clients = runner.roster.clients
        for label, target in self._book.moves().items():
            client = clients.get(label)
            if client is not None and target in after and client.cluster in after:
                pull = self._book.leave(label, client.cluster, target)
                self._change(
                    runner, "move", [client], target, f"led there by {pull:.2f}, twice in a row"
                )
        for number, members in runner.roster.clusters().items():
            if len(members) < self.min_size and number in after:
                self._dissolve(runner, members, set(after) - {number})
                break  # one a round: two of them must not take in each other
        for first, second in self._book.merges():
            if not {first, second} & self.changed and {first, second} <= after.keys():
                self._merge(runner, after, first, second)
        if self._rounds >= WINDOW:
            self._rounds = 0
            for number, window in sorted(self._windows.items()):
                if number in after:
                    self._split(runner, after, number, window)
            self._windows = {}
        held = {client.cluster for client in clients.values()}
        went = {one.before: one.after for one in self._told if one.what != "split"}
        for number in after.keys() & went.keys() - held:  # all have moved on
            del after[number]
            self._into[number] = went[number]
        self._forget(runner)
        return after

    def _merge(
        self, runner: Runner, models: dict[int, SparseModel], first: int, second: int
    ) -> None:
        """Let the larger cluster take the smaller one in: its mask, and the mean of both models."""
        members = runner.roster.clusters()
        sizes = {n: len(members.get(n, [])) for n in (first, second)}
        stays, goes = (first, second) if sizes[first] >= sizes[second] else (second, first)
        both = [*members.get(stays, []), *members.get(goes, [])]
        counts = [float(max(client.examples, 1)) for client in both]
        counts = capped(counts) if runner.options.robust else counts
        share = sum(c for c, client in zip(counts, both, strict=True) if client.cluster == stays)
        mean = mean_model([(models[stays], share), (models[goes], sum(counts) - share)])
        models[stays] = mean.with_mask(models[stays].mask)
        moved = [c for c in runner.roster.clients.values() if c.cluster == goes]
        why = f"hardly led away from each other, {ALIKE_IN_A_ROW} rounds in a row"
        self._change(runner, "merge", moved, stays, why)
        del models[goes]
        self._into[goes] = stays

    def _dissolve(self, runner: Runner, members: Sequence[Client], others: set[int]) -> None:
        """Give the members of a cluster that too few are left in to where they are led most."""
        for client in members:
            pulls = self._book.last.get(client.label, {})
            known = sorted(others & pulls.keys())
            if known:
                target = max(known, key=lambda number: pulls[number])
                self._change(runner, "merge", [client], target, "too few clients were left")

    def _split(
        self, runner: Runner, models: dict[int, SparseModel], number: int, window: Effects
    ) -> None:
        seen, parts, _ = window.fit()
        clients = runner.roster.clients
        here = [row for row, label in enumerate(seen) if clients[label].cluster == number]
        labels, parts = [seen[row] for row in here], parts[here]
        if len(labels) < 3 * self.min_size:  # nothing of so few would pass the test
            return
        found = find_structure(parts, linkage=self.linkage, min_size=self.min_size, seed=self.seed)
        now = dict(zip(labels, map(int, found.labels), strict=True))
        before, several = self._parts.pop(number, {}), max(now.values()) > 0
        if not several:
            return
        if agreement(before, now) < ALIKE:
            self._parts[number] = now
            return
        sizes = np.bincount(found.labels)
        rest = sorted(set(range(sizes.size)) - {int(sizes.argmax())})
        if len(models) + len(rest) > MOST_CLUSTERS:
            return
        for part in rest:
            new = 1 + max(models.keys() | self._into.keys())  # no number is used twice
            models[new] = models[number]
            moved = [clients[label] for label, k in now.items() if k == part]
            self._change(runner, "split", moved, new, found.note)

    def _change(
        self, runner: Runner, what: str, clients: Sequence[Client], after: int, why: str
    ) -> None:
        labels = tuple(sorted(client.label for client in clients))
        before = clients[0].cluster if clients else -1
        self._told.append(
            GroupChange(what=what, clients=labels, before=before, after=after, why=why)
        )
        # A cluster that somebody joins keeps what is known of those that were there.
        self.changed |= {before} if what == "move" else {before, after}
        for client in clients:
            client.cluster = after

    def _forget(self, runner: Runner) -> None:
        """Drop what the rounds said of clients and clusters that are others now."""
        if not self._told:
            return
        others = [one for one in self._told if one.what != "move"]
        gone = {number for one in others for number in (one.before, one.after)}
        self._book.forget((label for one in self._told for label in one.clients), gone)
        for number in gone:
            self._windows.pop(number, None)
            self._parts.pop(number, None)
        roster = {label: client.cluster for label, client in runner.roster.clients.items()}
        runner.observer.on_clusters(roster, "")

    def state(self) -> State:
        return {
            "book": self._book.to_json(),
            "rounds": self._rounds,
            "into": self._into,
            "parts": self._parts,
            "windows": {n: vars(window) for n, window in sorted(self._windows.items())},
        }

    def restore(self, state: State) -> None:
        self._book = PullBook.from_json(state["book"])
        self._rounds = int(state["rounds"])
        self._into = {int(gone): int(number) for gone, number in state["into"].items()}
        self._parts = {int(n): dict(one) for n, one in state["parts"].items()}
        self._windows = {int(n): Effects(**one) for n, one in state["windows"].items()}
