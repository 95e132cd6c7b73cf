"""``score="auto"``: the clients of each cluster choose what its mask is made by."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from caafp_app import CAAFP
from caafp_app.errors import SettingsError
from caafp_app.protocol.mod import _join_metrics
from caafp_app.pruning.score_text import DEFAULT_SCORE, RIVALS
from caafp_app.runner.options import WireFormat
from caafp_app.strategies import Clustering, Pruning
from caafp_app.strategies.election import vote_of
from tests.local_grid import Tamper
from tests.strategies import numpy_app
from tests.strategies.support import Recorder, only, run
from tests.strategies.trial import Trial

ROUNDS = 8


def foreign(score: str = "auto", tamper: Tamper | None = None, **more: Any) -> Trial:
    """Hold a run of somebody else's project: masks change after rounds 2, 4 and 6."""
    return Trial(
        tamper,
        rounds=(1, 1, ROUNDS - 2),
        configs=6,
        clustering=Clustering(2),
        pruning=Pruning(score=score, every=2),
        wire=WireFormat("float32", "float32", "float32"),  # what is rounded off lives on clients
        **more,
    ).start()


def chosen(seen: Recorder) -> dict[int, dict[int, str]]:
    """Of each election the winners, by round and cluster."""
    return {
        r.round: {n: min(said, key=lambda one: said[one]) for n, said in r.elected.items()}
        for r in seen.rounds
        if r.phase == "election"
    }


def praising(*losses: float) -> Tamper:
    """Let every client say these losses of the rivals."""

    def change(request: Message, reply: Message) -> Message:
        next(iter(reply.content.metric_records.values()))["eval_loss"] = list(losses)
        return reply

    return only(change, action="evaluate")


def test_an_app_evaluates_each_trial_as_a_model_of_its_own() -> None:
    seen = numpy_app.Seen()
    told = foreign(app=numpy_app.make_app(seen)).seen
    assert list(chosen(told)) == [4, 6]  # before round 2 nothing is known of any weight
    for round_ in (4, 6):
        record = told.round(round_, "election")
        assert record.answered == record.asked == 3
        assert record.elected.keys() == {0, 1}
        for said in record.elected.values():
            assert tuple(said) == RIVALS
            assert all(0 <= one <= 1 for one in said.values())
    trials = [model for kind, _, model in seen if kind == "evaluate"]
    assert len(trials) == 2 * 3 * len(RIVALS)
    left = [np.concatenate([w.ravel() for w in one[:2]]) != 0 for one in trials[: len(RIVALS)]]
    assert len({int(one.sum()) for one in left}) == 1  # of one size, and not all of one kind
    assert any((one != left[0]).any() for one in left)


def test_the_winner_makes_the_mask() -> None:
    for place, score in enumerate(RIVALS):
        losses = [float(place != other) for other in range(len(RIVALS))]
        trial = foreign(tamper=praising(*losses))
        bits = trial.kept.bits(ROUNDS)
        assert chosen(trial.seen)[6] == {0: score, 1: score}
        if score == DEFAULT_SCORE:  # nothing but the choice differs
            assert bits == foreign(score).kept.bits(ROUNDS)
            others = bits
        else:
            assert bits != others


def test_without_usable_losses_the_papers_mix_stays() -> None:
    trial = foreign(tamper=praising(1.0, float("nan"), 0.0, 1.0))
    assert set(chosen(trial.seen)) == {4, 6}
    assert not any(r.elected for r in trial.seen.rounds)
    assert trial.kept.bits(ROUNDS) == foreign(DEFAULT_SCORE).kept.bits(ROUNDS)


def test_masks_that_change_with_every_round_say_that_nobody_chooses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Trial(rounds=(1, 1, 3), pruning=Pruning(score="auto", every=1)).start()
    told = [line for line in caplog.messages if "no client chooses a score" in line]
    assert [line.split(":")[0] for line in told] == ["round 2", "round 3", "round 4"]
    assert "2 or more rounds between updates" in told[0]


def test_a_metric_of_several_numbers_leaves_the_vote_as_it_is() -> None:
    said = [RecordDict({"m": MetricRecord({"loss": n, "class": [n, 1.0]})}) for n in (2.0, 1.0)]
    _join_metrics(said[-1], said)
    assert dict(said[-1]["m"]) == {"loss": [2.0, 1.0]}


def test_our_own_app_scores_trials_on_train_windows_and_trains_on_all() -> None:
    ended = run({"score": "auto", "synthetic-windows": 40})
    record = ended.seen.round(6, "election")
    assert record.elected
    told = [p for p in ended.grid.passages if p.header.get("phase") == "election"]
    assert {p.header["action"] for p in told} == {"evaluate"}
    assert set(ended.asked()[6, "election"]) < set(ended.asked()[6, "prune"])
    assert "held" not in str(ended.result.train_metrics_clientapp)


@given(st.lists(st.integers(1, 999), min_size=4, max_size=4), st.floats(0.1, 100))
def test_a_vote_is_the_share_by_which_a_loss_is_larger_at_most_one(
    losses: list[int], scale: float
) -> None:
    said = [float(one) for one in losses]
    vote = vote_of(MetricRecord({"num-examples": 3, "eval_loss": said}), 4)
    assert vote == pytest.approx([min(one / min(said) - 1, 1) for one in said])
    assert vote_of(MetricRecord({"eval_loss": [scale * one for one in said]}), 4) == pytest.approx(
        vote
    )
    assert vote_of(MetricRecord({"eval_loss": said[:3], "accuracy": 0.5}), 4) is None
    assert vote_of(MetricRecord({"eval_loss": 1.5}), 4) == [0.0] * 4  # alike in all


@pytest.mark.parametrize(
    ("losses", "vote"),
    [
        ([0.0, 0.0, 1e-3, 5.0], [0, 0, 1, 1]),
        ([-4.0, -3.0, -2.0, 9.0], [0, 0.25, 0.5, 1]),  # a likelihood
        ([1e308, -1e308, 1.0, 2.0], None),  # a difference that overflows
    ],
)
def test_votes_of_unusual_losses(losses: list[float], vote: list[float] | None) -> None:
    assert vote_of(MetricRecord({"eval_loss": losses}), 4) == vote


def test_levels_and_elections_do_not_go_together() -> None:
    with pytest.raises(SettingsError, match="score: 'auto' lets clients try the whole model"):
        CAAFP(pruning=Pruning(score="auto", levels="1,0.5"))
