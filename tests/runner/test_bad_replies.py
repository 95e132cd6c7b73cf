"""A client that lies, or breaks: refused with a reason, in no sum, and the run goes on."""

import copy
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from caafp_app.errors import RunError
from caafp_app.runner.replies import MAX_REASON
from caafp_app.strategies import Clustering, Pruning
from tests.local_grid import Tamper
from tests.protocol.support import repacked
from tests.strategies.support import bits_of, failed, lost, only
from tests.strategies.trial import Trial

CLIENTS, VICTIM, ROUND = 4, "part-0002", 3
"""Round 3 of 5 is the first sparse one, and its replies bring gradients."""

Change = Callable[[RecordDict], None]


clustered = partial(
    Trial,
    configs=CLIENTS,
    clustering=Clustering(2),
    pruning=Pruning(sparsity=0.5, schedule="one-shot", every=1, regrow=0.2),
    seed=3,
)


def changed(change: Change) -> Tamper:
    def apply(request: Message, reply: Message) -> Message:
        change(reply.content)
        return reply

    return only(apply, VICTIM, rounds=[ROUND])


def array(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Change:
    def change(records: RecordDict) -> None:
        repacked(records, lambda arrays: arrays.update({name: make(arrays[name].copy())}))

    return change


def poked(name: str, value: float) -> Change:
    def poke(values: np.ndarray) -> np.ndarray:
        values[-1] = value
        return values

    return array(name, poke)


def without(name: str) -> Change:
    def change(records: RecordDict) -> None:
        repacked(records, lambda arrays: arrays.pop(name))

    return change


def header(**fields: Any) -> Change:
    def change(records: RecordDict) -> None:
        for key, value in fields.items():
            records.config_records["caafp"][key.replace("_", "-")] = value

    return change


def metrics(value: Any) -> Change:
    return lambda records: records.metric_records["metrics"].update({"num-examples": value})


def array_called(name: str) -> Change:
    def change(records: RecordDict) -> None:
        repacked(records, lambda arrays: arrays.update({name: np.zeros(1, np.float32)}))

    return change


def drop(name: str) -> Change:
    return lambda records: records.pop(name)


BAD: dict[str, tuple[Change, str]] = {
    "values-nan": (poked("values", np.nan), "NaN or infinity"),
    "rest-nan": (poked("rest", np.nan), "NaN or infinity"),
    "values-absurd": (poked("values", 1e30), "did training diverge"),
    "rest-absurd": (poked("rest", 3e38), "did training diverge"),
    "values-short": (array("values", lambda v: v[:-1]), r"expected float32 \[36\]"),
    "values-missing": (without("values"), "'values' is missing"),
    "digest-other": (header(mask_digest="0123456789abcdef"), "packed by mask 0123456789abcdef"),
    "digest-none": (header(mask_digest=""), "packed by mask none"),
    "version-other": (header(version=2), "protocol version 2 found"),
    "round-past": (header(round=ROUND - 1), f"reply of round {ROUND - 1} in round {ROUND}"),
    "round-ahead": (header(round=ROUND + 1), f"reply of round {ROUND + 1} in round {ROUND}"),
    "label-other": (header(label="part-0003"), "expected 'part-0002', found 'part-0003'"),
    "action-other": (header(action="evaluate"), "expected an answer to train, found evaluate"),
    "header-missing": (drop("caafp"), "no 'caafp' record"),
    "examples-negative": (metrics(-3), r"expected a number from 0 to 1e\+15, found -3"),
    "examples-tiny": (metrics(1e-300), "weight"),
    "name-huge": (array_called("x" * 5000), "x{500}"),
    "metrics-missing": (drop("metrics"), "expected one MetricRecord, found 0"),
    "gradient-more": (array("gradient-value", lambda v: np.ones(36, v.dtype)), "at most"),
    "gradient-huge": (header(gradient_scale=1e300), "within the stated scale"),
    "gradient-half": (without("gradient-value"), "positions without values"),
}


@pytest.fixture(scope="module")
def without_victim() -> dict[int, tuple[bytes, bytes, bytes]]:
    """The models of a run in which the reply in question got lost."""
    silent = clustered(only(lost, VICTIM, rounds=[ROUND]), timeout=0.05).start()
    record = silent.seen.round(ROUND)
    assert record.missing == (VICTIM,)
    assert (record.asked, record.answered, record.refused) == (CLIENTS, CLIENTS - 1, 0)
    bits = bits_of(silent.result)
    assert bits != bits_of(clustered().start().result)  # its reply does make a difference
    return bits


@pytest.mark.parametrize("name", BAD)
def test_a_bad_reply_is_refused_and_leaves_no_trace(
    name: str, without_victim: dict[int, tuple[bytes, bytes, bytes]]
) -> None:
    change, reason = BAD[name]
    trial = clustered(changed(change)).start()

    record = trial.seen.round(ROUND)
    assert (record.asked, record.answered, record.refused) == (CLIENTS, CLIENTS - 1, 1)
    assert record.missing == ()
    (found,) = record.reasons.items()
    assert found[1] == 1
    assert re.search(reason, found[0])
    assert len(found[0]) <= MAX_REASON
    assert bits_of(trial.result) == without_victim
    # It is asked again, in full, and its next reply counts.
    for number in (ROUND + 1, ROUND + 2):
        assert trial.seen.round(number).answered == CLIENTS
    (node,) = trial.nodes_of(2)
    again = [p for p in trial.grid.passages if (p.direction, p.node) == ("down", node)][-2:]
    assert "layout" in again[0].header
    assert "layout" not in again[1].header


def test_a_reply_of_a_past_round_sent_again_is_refused(
    without_victim: dict[int, tuple[bytes, bytes, bytes]],
) -> None:
    kept: list[RecordDict] = []

    def keep_and_replay(request: Message, reply: Message) -> Message:
        records = reply.content.config_records["caafp"]
        if (records["label"], records["action"]) == (VICTIM, "train"):
            if records["round"] == ROUND - 1:
                kept.append(copy.deepcopy(reply.content))
            elif records["round"] == ROUND:
                replayed = Message(kept[0], reply_to=request)
                replayed.metadata.__dict__.update(reply.metadata.__dict__)
                return replayed
        return reply

    trial = clustered(keep_and_replay).start()
    assert kept
    assert trial.seen.round(ROUND).reasons == {f"reply of round {ROUND - 1} in round {ROUND}": 1}
    assert bits_of(trial.result) == without_victim


def test_a_duplicate_reply_counts_once() -> None:
    plain, doubled = clustered().start(), clustered(duplicate=True).start()
    assert bits_of(plain.result) == bits_of(doubled.result)
    for one, two in zip(plain.seen.rounds, doubled.seen.rounds, strict=True):
        assert (one.answered, one.refused, one.bytes_up) == (
            two.answered,
            two.refused,
            two.bytes_up,
        )
    assert plain.result.report.ledger.messages == doubled.result.report.ledger.messages


def test_a_node_cannot_answer_for_another(
    without_victim: dict[int, tuple[bytes, bytes, bytes]],
) -> None:
    def misdirect(request: Message, reply: Message) -> Message:
        others = set(trial.grid.contexts) - {request.metadata.dst_node_id}
        reply.metadata.__dict__["_src_node_id"] = min(others)
        return reply

    trial = clustered(only(misdirect, VICTIM, rounds=[ROUND]))
    trial.start()
    record = trial.seen.round(ROUND)
    assert (record.answered, record.refused, record.missing) == (CLIENTS - 1, 0, (VICTIM,))
    assert bits_of(trial.result) == without_victim


def test_if_every_client_fails_in_three_rounds_the_run_stops_with_their_reasons() -> None:
    def fail(request: Message, reply: Message) -> Message:
        mine = reply.content.config_records["caafp"]["label"] == VICTIM
        return failed(request, reply, why="no data" if mine else "out of memory")

    trial = clustered(only(fail, rounds=[2, 3, 4]))
    with pytest.raises(RunError, match="found none in 3 rounds in a row; in round 4: ") as error:
        trial.start()
    assert "client-failed: out of memory (3 clients)" in str(error.value)
    assert "client-failed: no data (1 clients)" in str(error.value)
    for record in (trial.seen.round(2, "cluster"), trial.seen.round(2)):
        assert (record.answered, record.refused) == (0, CLIENTS)
        assert record.reasons == {"client-failed: out of memory": 3, "client-failed: no data": 1}


def test_a_run_outlives_two_rounds_in_which_every_client_fails() -> None:
    trial = clustered(only(failed, rounds=[3, 4])).start()
    assert [trial.seen.round(n).answered for n in range(1, 6)] == [4, 4, 0, 0, 4]


def test_a_run_that_ends_without_one_usable_update_says_so() -> None:
    trial = clustered(only(failed), rounds=(1, 1, 0))
    with pytest.raises(RunError, match="found none in 2 rounds in a row; in round 2: "):
        trial.start()


def test_a_round_that_nobody_answers_is_skipped_and_the_last_model_kept() -> None:
    trial = clustered(only(lost, rounds=[4]), timeout=0.05).start()
    record = trial.seen.round(4)
    assert (record.asked, record.answered, record.refused) == (CLIENTS, 0, 0)
    assert record.missing == tuple(f"part-{k:04d}" for k in range(CLIENTS))
    assert record.accuracy is None
    assert record.loss is None
    weights = {n: [bits[1] for bits in trial.kept.bits(n).values()] for n in (3, 4, 5)}
    assert weights[3] == weights[4] != weights[5]


def test_clustering_waits_for_a_round_that_is_answered() -> None:
    def silent(request: Message, reply: Message) -> Message | None:
        phase = request.content.config_records["caafp"]["phase"]
        lost = phase == "cluster" and reply.content.config_records["caafp"]["round"] == 2
        return None if lost else reply

    trial = clustered(silent, timeout=0.05)
    trial.start()
    record = trial.seen.round(2, "cluster")
    assert (record.asked, record.answered) == (CLIENTS, 0)
    assert trial.seen.round(2).density == {-1: 0.5}
    assert trial.seen.round(3, "cluster").answered == CLIENTS
    assert sorted(trial.result.clusters) == [0, 1]
    groups = [[f"part-{k:04d}" for k in range(g, CLIENTS, 2)] for g in range(2)]
    found = trial.seen.labels
    assert sorted(sorted(k for k in found if found[k] == c) for c in (0, 1)) == groups


def test_a_run_that_trains_on_nothing_is_a_failed_run() -> None:
    def none(request: Message, reply: Message) -> Message:
        for metrics in reply.content.metric_records.values():
            metrics["num-examples"] = 0
        return reply

    trial = clustered(only(none))
    with pytest.raises(RunError, match=r"found none in 5 rounds: each of the 4 .* has 0 examples"):
        trial.start()
    assert trial.seen.report is None


def test_a_run_of_too_few_replies_in_each_round_is_a_failed_run() -> None:
    trial = clustered(only(lost, VICTIM), timeout=0.2, min_replies=CLIENTS)
    with pytest.raises(RunError, match="clients answered, fewer than min_replies"):
        trial.start()
    assert trial.seen.report is None
