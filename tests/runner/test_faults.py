"""Devices that fail, leave, come back and lie: the run goes on, and says so."""

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, MetricRecord

from caafp_app.errors import RunError, SettingsError
from caafp_app.protocol.messages import Action, Answer
from caafp_app.runner import discovery, runner
from caafp_app.runner.roster import GONE_AFTER, Client, Roster
from caafp_app.strategies import Clustering, Pruning
from caafp_app.strategies.fedavg import FedAvg
from tests.local_grid import Tamper
from tests.protocol.support import repacked
from tests.strategies.support import bits_of, failed, lost, only, prepare
from tests.strategies.trial import Trial

VICTIM = "part-0002"

averaged = partial(Trial, kind=FedAvg, rounds=10, timeout=0.05)
clustered = partial(Trial, timeout=0.05)


# -- resting -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["silent", "refused"])
def test_who_fails_again_and_again_rests_longer_and_longer(how: str) -> None:
    tamper = only(lost if how == "silent" else failed, VICTIM)
    trial = averaged(tamper, rounds=25).start()
    # Three failures, then 2, 4, 8 rounds of rest.
    assert trial.asked(VICTIM) == [1, 2, 3, 6, 11, 20]
    assert trial.asked("part-0001") == list(range(1, 26))
    assert all(trial.seen.round(n).answered == 4 for n in range(1, 26))
    assert trial.seen.round(3).refusals == (
        {VICTIM: "client-failed: MemoryError"} if how == "refused" else {}
    )


def test_who_answers_again_is_well_again_and_nobody_rests_if_told_so() -> None:
    trial = averaged(only(lost, VICTIM, rounds=[1, 2, 4, 5, 7, 8, 10])).start()
    assert trial.asked(VICTIM) == list(range(1, 11))
    assert averaged(only(lost, VICTIM), rest_after=0).start().asked(VICTIM) == list(range(1, 11))


def test_if_all_rest_all_are_asked() -> None:
    trial = averaged(only(lost, rounds=[1, 2]), rounds=4, timeout=0.02, rest_after=1).start()
    assert [trial.seen.round(n).asked for n in range(1, 5)] == [5] * 4
    assert trial.seen.round(3).answered == 5


# -- quorum --------------------------------------------------------------------------------


def test_too_few_replies_do_not_move_the_model() -> None:
    late = [f"part-{k:04d}" for k in (2, 3, 4)]
    trial = averaged(only(lost, *late, rounds=[2]), rounds=3, min_replies=3).start()
    assert trial.kept.bits(1) == trial.kept.bits(2) != trial.kept.bits(3)
    assert [trial.seen.round(n).used for n in (1, 2, 3)] == [True, False, True]
    assert trial.seen.round(2).missing == ("part-0002", "part-0003", "part-0004")


def test_a_mask_update_after_too_few_replies_is_still_exact() -> None:
    others = [f"part-{k:04d}" for k in (0, 1, 3, 4)]
    trial = clustered(
        only(lost, *others, rounds=[3, 4, 5]),
        rounds=(1, 1, 3),
        min_replies=2,
        clustering=Clustering(2),
        pruning=Pruning(sparsity=0.5, every=1),
    ).start()
    assert [r.used for r in trial.seen.rounds if r.phase == "prune"] == [False] * 3
    assert all(c.density == pytest.approx(0.5) for c in trial.result.clusters.values())


@pytest.mark.parametrize("code", [470, 472])
def test_what_is_refused_is_no_reply_and_the_others_are_waited_for(code: int) -> None:
    """470 is answered by sending all again, whose reply would have counted a second time."""
    trial = averaged(
        only(partial(failed, code=code), VICTIM), rounds=1, min_replies=4, grace=30.0, timeout=0.1
    )
    pull, asked = trial.grid.pull_messages, time.monotonic()

    def slow(ids: Iterable[str]) -> Iterable[Message]:
        """The last client's training takes longer than the timeout."""
        late = f"{9:064x}"  # of the last; five were asked who they are before
        early = time.monotonic() - asked < 0.5
        return pull([i for i in ids if not (early and i == late)])

    trial.grid.pull_messages = slow  # type: ignore[method-assign]
    trial.start()
    record = trial.seen.round(1)
    assert (record.answered, record.refused, record.missing) == (4, 1, ())
    assert record.used
    assert record.seconds < 10


# -- coming and going ----------------------------------------------------------------------


def test_a_label_that_comes_back_before_its_old_node_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "POLL_SECONDS", 0.01)
    configs = [{"partition-id": k % 4, "num-partitions": 4} for k in range(5)]  # 0 comes twice
    trial = averaged(rounds=6, configs=configs)
    old, new = trial.nodes_of(0)
    trial.grid.offline.add(new)
    dead: set[int] = set()

    def silent(request: Message, reply: Message) -> Message | None:
        return None if request.metadata.dst_node_id in dead else reply

    def restart() -> None:  # the SuperLink still lists the old one
        dead.add(old)
        trial.grid.offline.clear()

    trial.grid.tamper = silent
    trial.seen.at[2, "train"] = restart
    trial.start()
    answered = [trial.seen.round(n).answered for n in range(1, 7)]
    assert answered == [4, 4, 3, 4, 4, 4]
    assert trial.seen.round(3).missing == ("part-0000",)
    to_new = [p.header for p in trial.grid.passages if (p.direction, p.node) == ("down", new)]
    assert [h["round"] for h in to_new if h["action"] == "train"] == [4, 5, 6]


@pytest.mark.parametrize("how", ["answers", "restarted"])
def test_who_missed_the_clustering_is_placed_once_it_is_back(how: str) -> None:
    configs = [{"partition-id": k % 6, "num-partitions": 6} for k in range(7)]
    terms: dict[str, Any] = {
        "rounds": (1, 6, 1),
        "clustering": Clustering(2),
        "pruning": Pruning(sparsity=0.0),
    }
    trial = clustered(**terms, configs=configs)
    # The last node is the first one again, after a restart.
    old, new = trial.nodes_of(0)
    trial.grid.offline.add(new)
    back = {"answers": 5, "restarted": 99}[how]

    def silent(request: Message, reply: Message) -> Message | None:
        header = reply.content.config_records["caafp"]
        lost = request.metadata.dst_node_id == old and 2 <= header["round"] < back
        return None if lost else reply

    def restart() -> None:
        trial.grid.offline.clear()
        trial.grid.offline.add(old)

    trial.grid.tamper = silent
    if how == "restarted":
        trial.seen.at[4, "cluster-warm-up"] = restart
    trial.strategy.rest_after = 0
    trial.start()
    whole = clustered(**terms, configs=configs[:6]).start()
    mates, wanted = (
        {frozenset(cluster.members) for cluster in t.result.clusters.values()}
        for t in (trial, whole)
    )
    assert mates == wanted
    placed = [(r.round, r.asked, r.answered) for r in trial.seen.rounds if r.phase == "cluster"]
    # Who does not answer is not waited for twice in a round.
    assert placed == [(2, 6, 5), ({"answers": 6, "restarted": 5}[how], 1, 1)]


def test_who_stays_away_is_no_member_until_it_comes_back() -> None:
    roster = Roster()
    roster.meet([1, 2])
    for node, label in ((1, "a"), (2, "b")):
        roster.enrol(node, Answer(label, 5, action=Action.DESCRIBE, round=0))
        roster.clients[label].cluster = node - 1
    roster.meet([1])
    for _ in range(GONE_AFTER - 1):
        roster.count_round()
    assert list(roster.clusters()) == [0, 1]
    roster.count_round()
    assert list(roster.clusters()) == [0]
    roster.meet([1, 2])
    assert list(roster.clusters()) == [0, 1]


def test_an_outage_counts_as_one_round_however_long_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "POLL_SECONDS", 0.001)
    trial = averaged(rounds=5, timeout=10.0, min_available_nodes=1)
    idle, away, *rest = trial.grid.contexts

    trial.grid.tamper = lambda request, reply: (
        failed(request, reply) if request.metadata.dst_node_id == idle else reply
    )
    online, polls = trial.grid.get_node_ids, 0

    def poll() -> Iterable[int]:
        nonlocal polls
        polls += bool(trial.grid.offline)
        if polls == 3 * GONE_AFTER:
            trial.grid.offline -= set(rest)
        return online()

    trial.grid.get_node_ids = poll  # type: ignore[method-assign]
    trial.seen.at[2, "train"] = lambda: trial.grid.offline.update([away, *rest])
    trial.start()
    assert polls > 3 * GONE_AFTER
    clients = trial.kept.states[5]["roster"]["clients"]
    assert [clients[f"part-{k:04d}"]["absent"] for k in (1, 2, 3, 4)] == [3, 0, 0, 0]
    assert [len(cluster.members) for cluster in trial.result.clusters.values()] == [4]


def test_the_roster_comes_back_from_its_state_without_nodes() -> None:
    roster = Roster()
    roster.population = 7
    roster.clients["a"] = Client("a", 99, 12, 2, "digest", failures=2, rests_until=5, absent=3)
    restored = Roster()
    restored.restore(roster.state())
    assert restored.population == 7
    found = restored.clients["a"]
    assert (found.examples, found.cluster, found.failures) == (12, 2, 2)
    assert (found.rests_until, found.absent, found.held) == (5, 3, "")
    assert restored.reachable() == []
    restored.meet([99, 4])
    assert restored.enrol(4, Answer("a", 12, action=Action.DESCRIBE, round=0)) == ""
    assert [c.label for c in restored.reachable()] == ["a"]


def test_if_all_are_gone_the_run_waits_and_then_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "POLL_SECONDS", 0.01)
    trial = averaged(rounds=4, min_available_nodes=1)
    trial.seen.at[2, "train"] = lambda: trial.grid.offline.update(trial.grid.contexts)
    with pytest.raises(RunError, match=r"found 0 within 0\.05 s"):
        trial.start()
    assert len(trial.seen.rounds) == 2


def test_having_nothing_to_evaluate_on_is_no_failure() -> None:
    def nothing(request: Message, reply: Message) -> Message:
        reply.content["metrics"] = MetricRecord({"num-examples": 0, "eval_acc": 0.0})
        return reply

    empty = only(nothing, action="evaluate")
    trial = averaged(empty, rounds=1, fraction_evaluate=1.0).start()
    record = trial.seen.round(1, "evaluate")
    assert (record.asked, record.answered, record.refused) == (5, 5, 0)
    assert record.accuracy is None
    empty = only(nothing, VICTIM, action="evaluate")
    trial = averaged(empty, rounds=1, fraction_evaluate=1.0).start()
    record = trial.seen.round(1, "evaluate")
    assert (record.answered, record.refused) == (5, 0)
    assert record.accuracy > 0


# -- liars ---------------------------------------------------------------------------------


def scaled(by: float, first: int = 1) -> Tamper:
    """Let one client's updates be so many times as long, from a round on."""

    def scale(request: Message, reply: Message) -> Message:
        def change(arrays: dict[str, np.ndarray]) -> None:
            arrays.update({k: arrays[k] * np.float32(by) for k in ("values", "rest")})

        repacked(reply.content, change)
        return reply

    return only(scale, VICTIM, rounds=range(first, 100))


def apart(one: Trial, other: Trial) -> float:
    """How far the results of two runs are from each other, in the longest step."""
    arrays = (trial.result.arrays.to_numpy_ndarrays() for trial in (one, other))
    return float(max(np.abs(a - b).max() for a, b in zip(*arrays, strict=True)))


@pytest.mark.parametrize("first", [1, 4])
@pytest.mark.parametrize("by", [1000.0, -1000.0])
def test_an_absurdly_long_update_is_scaled_down_and_named(by: float, first: int) -> None:
    trial = averaged(scaled(by, first), rounds=6, robust=True).start()
    assert all(VICTIM in trial.seen.round(n).clipped for n in range(first, 7))
    assert all(trial.seen.round(n).refused == 0 for n in range(1, 7))
    honest = averaged(rounds=6, robust=True).start()
    free = averaged(scaled(by, first), rounds=6).start()
    assert apart(free, honest) > 50 * apart(trial, honest)
    assert free.seen.round(6).clipped == ()


@pytest.mark.parametrize("fits", [True, False])
def test_who_goes_against_most_others_is_left_out_and_named(
    fits: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if not fits:
        monkeypatch.setattr(runner, "HOLD_BYTES", 1000)

    def run_with(way: float) -> Trial:
        def agree(request: Message, reply: Message) -> Message:
            liar = reply.content.config_records["caafp"]["label"] == VICTIM
            repacked(
                reply.content,
                lambda arrays: arrays.update(
                    values=np.full_like(arrays["values"], way if liar else 0.01)
                ),
            )
            return reply

        return averaged(only(agree), rounds=2, robust=True).start()

    lied, honest = run_with(-0.01), run_with(0.01)
    assert [lied.seen.round(n).opposed for n in (1, 2)] == [(VICTIM,) if fits else ()] * 2
    assert honest.seen.round(2).opposed == ()
    assert ("not compared by their direction" in caplog.text) != fits
    weights = (trial.result.arrays.to_numpy_ndarrays()[0] for trial in (lied, honest))
    assert np.allclose(*weights, atol=1e-6) == fits


def test_a_claim_of_many_examples_buys_nothing() -> None:
    def claiming(count: int) -> Tamper:
        def claim(request: Message, reply: Message) -> Message:
            reply.content.metric_records["metrics"]["num-examples"] = count
            return reply

        return only(claim, VICTIM)

    one, other = (averaged(claiming(n), rounds=2, robust=True).start() for n in (10**8, 1000))
    assert bits_of(one.result) == bits_of(other.result)
    free = averaged(claiming(10**8), rounds=2).start()
    assert bits_of(free.result) != bits_of(one.result)


def test_clusterfl_has_no_mean_to_make_robust() -> None:
    with pytest.raises(SettingsError, match="in clusterfl every client has a model of its own"):
        prepare({"strategy": "clusterfl", "aggregation": "median"}).start()


def test_undisturbed_runs_do_not_depend_on_any_of_it() -> None:
    plain = averaged(rounds=4).start()
    guarded = averaged(rounds=4, min_replies=5, grace=1.0, rest_after=1).start()
    assert bits_of(plain.result) == bits_of(guarded.result)
