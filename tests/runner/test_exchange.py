"""Sending and receiving, on a grid and a clock of our own."""

import weakref
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from caafp_app.errors import RunError
from caafp_app.runner import exchange
from caafp_app.runner.exchange import FIRST_PAUSE, GROWTH, LONGEST_PAUSE, REST, Exchange, Quorum
from caafp_app.runs.ledger import Ledger
from tests.local_grid import Clock, LocalGrid
from tests.strategies.numpy_app import make_app


class TimedGrid(LocalGrid):
    """Each node answers so many seconds after it was asked; None: never."""

    def __init__(self, clock: Clock, after: dict[int, float | None]) -> None:
        super().__init__(make_app(), [])
        self.clock, self.after = clock, after
        self.ready_at: dict[str, tuple[float, int]] = {}
        self.pulls: list[int] = []
        self.refuse: set[int] = set()
        self.leave_out: set[int] = set()
        self.source: dict[int, int] = {}
        self.pushed = 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids: list[Any] = []
        for message in messages:
            node = message.metadata.dst_node_id
            self.pushed += 1
            key = f"id-{self.pushed}"
            message.metadata.__dict__["_message_id"] = key
            if node in self.leave_out:
                continue
            if node in self.refuse:
                ids.append(None)
                continue
            ids.append(key)
            delay = self.after[node]
            if delay is not None:
                self.ready_at[key] = (self.clock.now + delay, node)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        wanted = list(message_ids)
        self.pulls.append(len(wanted))
        due = [k for k in wanted if k in self.ready_at and self.ready_at[k][0] <= self.clock.now]
        return [self.reply(k, self.ready_at.pop(k)[1]) for k in due]

    def reply(self, key: str, node: int) -> Message:
        content = RecordDict({"a": ArrayRecord({"v": Array(np.full(100, node, np.float32))})})
        message = Message(content, reply_to=to(node))
        message.metadata.__dict__["_reply_to_message_id"] = key
        message.metadata.__dict__["_src_node_id"] = self.source.get(node, node)
        return message


def to(node: int) -> Message:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    return Message(RecordDict(), node, MessageType.TRAIN)


class World:
    def __init__(self, after: dict[int, float | None]) -> None:
        self.clock = Clock()
        self.grid = TimedGrid(self.clock, after)
        self.ledger = Ledger()
        self.exchange = Exchange(self.grid, self.ledger, self.clock, self.clock.sleep)

    def run(self, nodes: Iterable[int], timeout: float = 10.0, **how: Any) -> Iterator[Message]:
        messages = [to(node) for node in nodes]
        return self.exchange.run(messages, phase="warm-up", round=3, timeout=timeout, **how)

    def answered(self, nodes: Iterable[int], timeout: float = 10.0) -> list[tuple[int, float]]:
        return [(m.metadata.src_node_id, self.clock.now) for m in self.run(nodes, timeout)]

    def used(self, useless: int, **how: Any) -> list[int]:
        """Who was of use, all but one node, of those that answered."""
        taken: list[int] = []
        for message in self.run(self.grid.after, taken=lambda: len(taken), **how):
            if message.metadata.src_node_id != useless:
                taken.append(message.metadata.src_node_id)
        return taken


def test_replies_are_handed_on_as_they_come() -> None:
    world = World({1: 2.0, 2: 0.0, 3: 0.5})
    found = world.answered([1, 2, 3])
    assert [node for node, _ in found] == [2, 3, 1]
    for node, at in found:
        after = world.grid.after[node]
        assert after <= at <= after + LONGEST_PAUSE
    assert world.exchange.missing == ()


def test_the_deadline_ends_it_and_the_missing_are_known() -> None:
    world = World({1: 0.1, 2: None, 3: 100.0, 4: 5.0})
    found = world.answered([1, 2, 3, 4], timeout=5.0)
    # What is ready at the deadline still counts.
    assert [node for node, _ in found] == [1, 4]
    assert world.clock.now == pytest.approx(5.0)
    assert world.exchange.missing == (2, 3)
    # The next run begins anew, and a late reply of this one is nobody's.
    world.clock.now = 200.0
    assert [node for node, _ in world.answered([4])] == [4]
    assert world.exchange.missing == ()


def test_pauses_grow_while_nothing_comes_and_are_short_again_after_a_reply() -> None:
    world = World({1: 3.0, 2: 4.0})
    world.answered([1, 2])
    pauses = world.clock.pauses
    assert pauses[0] == FIRST_PAUSE
    grown = 1 + next(k for k, (a, b) in enumerate(pairwise(pauses)) if b < a)
    assert pauses[1:grown] == pytest.approx(
        [min(pause * GROWTH, LONGEST_PAUSE) for pause in pauses[: grown - 1]]
    )
    assert max(pauses) == LONGEST_PAUSE
    assert pauses[grown] == FIRST_PAUSE
    assert len(pauses) < 60


def test_more_may_be_sent_while_replies_are_consumed() -> None:
    world = World({1: 0.0, 2: 0.2, 3: 0.3, 4: None})
    found = []
    for reply in world.run([1, 2], timeout=1.0):
        node = reply.metadata.src_node_id
        found.append(node)
        if node == 1:
            world.exchange.send([to(3), to(4)])
    assert found == [1, 2, 3]
    assert world.exchange.missing == (4,)
    assert world.ledger.exchange("warm-up", 3).messages == {"down": 4, "up": 3}


def test_a_reply_is_freed_before_the_next_is_handed_on() -> None:
    world = World(dict.fromkeys(range(1, 6), 0.0))
    alive: list[weakref.ref[Message]] = []
    replies = world.run(range(1, 6))
    for _ in range(5):
        reply = next(replies)
        assert all(ref() is None for ref in alive)
        alive.append(weakref.ref(reply))
        del reply
    assert next(replies, None) is None
    assert alive[-1]() is None


def test_no_more_is_asked_for_at_once_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(dict.fromkeys(range(1, 8), 0.0))
    world.answered(range(1, 8))
    assert world.grid.pulls == [7]
    small, everyone = World(dict.fromkeys(range(1, 41), 0.0)), range(1, 41)
    asked = small.ledger.record("down", "other", to(1), round=0)
    answered = small.ledger.record("up", "other", small.grid.reply("x", 1), round=0)
    monkeypatch.setattr(exchange, "HELD_BYTES", 2 * answered + 40)
    assert [node for node, _ in small.answered(everyone)] == list(everyone)
    # At first it knows the requests only; then it has seen that replies are longer.
    first = (2 * answered + 40) // asked
    assert 2 < first < 40
    assert small.grid.pulls == [first] + [2] * ((40 - first) // 2) + [1] * ((40 - first) % 2)


def test_many_messages_go_out_in_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "BATCH", 3)
    world = World(dict.fromkeys(range(1, 8), 0.0))
    sizes: list[int] = []
    push = world.grid.push_messages

    def counted(messages: Iterable[Message]) -> Iterable[str]:
        batch = list(messages)
        sizes.append(len(batch))
        return push(batch)

    monkeypatch.setattr(world.grid, "push_messages", counted)
    assert [node for node, _ in world.answered(range(1, 8))] == list(range(1, 8))
    assert sizes == [3, 3, 1]


def test_messages_that_could_not_be_pushed_are_missing() -> None:
    world = World({1: 0.0, 2: 0.0, 3: 0.0, 4: 0.0})
    world.grid.refuse, world.grid.leave_out = {2}, {1}
    assert [node for node, _ in world.answered([1, 2, 3, 4])] == [3, 4]
    assert sorted(world.exchange.missing) == [1, 2]
    assert world.clock.now == 0.0  # nobody is waited for


def test_an_answer_in_somebody_elses_name_is_missing() -> None:
    world = World({1: 0.0, 2: 0.1})
    world.grid.source = {1: 99}
    assert [node for node, _ in world.answered([1, 2])] == [2]
    assert world.exchange.missing == (1,)


def test_polls_that_take_long_are_far_between() -> None:
    world = World({1: 2.0})
    pull = world.grid.pull_messages

    def slow(ids: Iterable[str]) -> Iterable[Message]:
        world.clock.now += 0.004
        return pull(ids)

    world.grid.pull_messages = slow  # type: ignore[method-assign]
    assert [node for node, _ in world.answered([1])] == [1]
    assert min(world.clock.pauses) == pytest.approx(REST * 0.004)
    assert max(world.clock.pauses) == LONGEST_PAUSE


@pytest.mark.parametrize(
    ("replies", "grace", "useless", "found", "ends"),
    [
        (0, 9.0, 0, [1], 10.0),  # whatever has come
        (1, 9.0, 0, [1], 10.0),  # as many as are needed
        (2, 9.0, 0, [1, 2], 13.0),  # the second is waited for, and no longer
        (3, 9.0, 0, [1, 2], 19.0),
        (3, 0.0, 0, [1], 10.0),
        (99, 90.0, 0, [1, 2, 3], 60.0),  # no more than were asked
        (1, 9.0, 1, [2], 13.0),  # a reply that is of no use does not count
    ],
)
def test_a_quorum_is_waited_for_beyond_the_deadline(
    replies: int, grace: float, useless: int, found: list[int], ends: float
) -> None:
    world = World({1: 2.0, 2: 13.0, 3: 60.0})
    assert world.used(useless, quorum=Quorum(replies, grace)) == found
    assert ends <= world.clock.now <= ends + LONGEST_PAUSE
    assert set(world.exchange.missing) == {1, 2, 3} - {useless, *found}


@pytest.mark.parametrize(
    ("replies", "patience", "found", "ends"),
    [
        (3, 2.0, [1, 2, 3], 8.0),  # the median is 4 s
        (2, 3.0, [1, 2, 3], 12.0),
        (2, 1.0, [1, 2], 4.0),
        (4, 2.0, [1, 2, 3, 4], 99.0),  # a slow one that is needed
        (3, 0.0, [1, 2, 3, 4], 99.0),
        (0, 2.0, [1, 2, 3, 4], 99.0),  # any number is enough: all are waited for
    ],
)
def test_who_is_much_slower_than_most_does_not_set_the_pace(
    replies: int, patience: float, found: list[int], ends: float
) -> None:
    """B13: a client that always answers just inside the deadline."""
    world = World({1: 3.0, 2: 4.0, 3: 5.0, 4: 99.0})
    assert world.used(0, timeout=100.0, quorum=Quorum(replies, 0.0, patience)) == found
    assert ends <= world.clock.now <= ends + (1 + patience) * LONGEST_PAUSE


def test_who_is_told_to_end_does_not_wait_for_the_deadline() -> None:
    world = World({1: 2.0, 2: None})
    stopping = Exchange(
        world.grid, world.ledger, world.clock, world.clock.sleep, lambda: world.clock.now >= 3.0
    )
    run = stopping.run([to(1), to(2)], phase="warm-up", round=3, timeout=10.0)
    assert next(run).metadata.src_node_id == 1
    with pytest.raises(RunError, match="told to end while warm-up, round 3"):
        next(run)
    assert world.clock.now <= 3.0 + LONGEST_PAUSE
