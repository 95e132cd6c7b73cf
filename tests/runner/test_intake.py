"""One rule for every vector of a reply, against numpy."""

from dataclasses import replace

import numpy as np
import pytest

from caafp_app.errors import ProtocolError
from caafp_app.protocol.messages import Action
from caafp_app.pruning.influence import NORM_FACTOR, WEIGHT_FACTOR, Influence
from caafp_app.registry import AGGREGATIONS
from caafp_app.runner.intake import Intake
from caafp_app.runner.query import Query, Update
from caafp_app.runner.summed import Summed
from tests.runner.support import Sent, model_of, updates_for

MODEL = model_of(0.6)


def taken(
    sent: Sent, query: Query, aggregation: str = "mean", *, compares: bool = False
) -> tuple[Summed, Intake, dict]:
    refused: dict[str, str] = {}
    rule = AGGREGATIONS[aggregation]
    intake = Intake(
        Influence(0.0, 0.0) if compares else Influence(),
        rule,
        lambda label, error: refused.update({label: str(error)}),
        compares=compares,
    )
    summed = Summed(query, rule)
    for label, update, weight in sent:
        intake.take(label, update, summed, weight, alike=False)
    intake.finish()
    return summed, intake, refused


def longer(update: Update, by: float) -> Update:
    gradient = replace(update.gradient, value=update.gradient.value * np.float32(by))
    return replace(
        update,
        values=update.values * np.float32(by),
        rest=update.rest * np.float32(by),
        gradient=gradient,
    )


QUERY = Query(Action.TRAIN, MODEL, (), wants=frozenset({"squares", "signs"}), gradients=(3, 3))


def test_mean_rest_sums_and_gradients_get_the_same_liar_scaled_down() -> None:
    sent = [(label, update, 10.0) for label, update, _ in updates_for(MODEL, 9)]
    liar, update, _ = sent[4]
    lied = [*sent[:4], (liar, longer(update, -1e6), 10.0**8), *sent[5:]]
    found, intake, refused = taken(lied, QUERY)
    honest, _, _ = taken(sent, QUERY)
    assert (refused, liar in intake.clipped) == ({}, True)
    one, other = found.mean(), honest.mean()
    assert found.update.weight == 80 + 10 * WEIGHT_FACTOR
    usual = sorted(float(np.linalg.norm(u.values)) for _, u, _ in sent)[4]
    pull = (1 + NORM_FACTOR * WEIGHT_FACTOR) / (8 + WEIGHT_FACTOR)
    assert np.linalg.norm(one.values - other.values) <= 1.2 * pull * usual
    assert np.linalg.norm(one.rest - other.rest) < 1.0
    most = found.sums["squares"].total.read(slice(0, MODEL.mask.count)).sum()
    assert most < honest.sums["squares"].total.read(slice(0, MODEL.mask.count)).sum() * (
        1 + 1.2 * NORM_FACTOR**2 * WEIGHT_FACTOR / 9
    )
    assert np.abs(found.gradient.mean()).max() < 2.0


@pytest.mark.parametrize("aggregation", AGGREGATIONS.builtin)
def test_the_order_of_arrival_does_not_show_in_a_first_round(aggregation: str) -> None:
    sent = [*updates_for(MODEL, 6), ("z", longer(updates_for(MODEL, 1, 5)[0][1], 30.0), 99.0)]
    results = []
    for order in (sent, sent[::-1]):
        mean = taken(order, QUERY, aggregation)[0].mean()
        results.append((mean.values.tobytes(), mean.rest.tobytes(), mean.other["steps"].item()))
    assert results[0] == results[1]


def test_what_clients_are_compared_by_keeps_its_direction() -> None:
    sent = [*updates_for(MODEL, 4), ("z", longer(updates_for(MODEL, 1, 5)[0][1], 1e4), 1.0)]
    query = Query(
        Action.TRAIN,
        MODEL,
        (),
        each=lambda u: np.concatenate([u.values, u.rest]).copy(),
        adds=False,
    )
    summed, intake, _ = taken(sent, query)
    whole = np.concatenate([sent[-1][1].values, sent[-1][1].rest])
    kept = summed.kept["z"]
    assert kept @ whole == pytest.approx(np.linalg.norm(kept) * np.linalg.norm(whole), rel=1e-4)
    assert np.linalg.norm(kept) < 20
    assert intake.clipped >= {"z"}


@pytest.mark.parametrize("aggregation", ["mean", "trimmed-mean", "median"])
@pytest.mark.parametrize("looked_at", [False, True])
def test_what_most_others_oppose_is_in_no_sum(aggregation: str, looked_at: bool) -> None:
    way = updates_for(MODEL, 1, 7)[0][1]
    sent = [
        (label, replace(update, values=way.values + update.values / 4), weight)
        for label, update, weight in updates_for(MODEL, 6)
    ]
    query = replace(QUERY, each=lambda update: float(update.values[0])) if looked_at else QUERY
    lied = [("z", longer(sent[0][1], -1.0), 10.0), *sent]
    found, intake, _ = taken(lied, query, aggregation, compares=True)
    honest, alone, _ = taken(sent, query, aggregation, compares=True)
    assert (intake.opposed, alone.opposed) == ({"z"}, set())
    assert found.replies == honest.replies == 6
    for name in query.wants:
        one, other = (s.sums[name].total.read(slice(0, MODEL.mask.count)) for s in (found, honest))
        assert one.tobytes() == other.tobytes()
    assert found.gradient.mean().tobytes() == honest.gradient.mean().tobytes()
    assert set(found.kept) == ({label for label, *_ in lied} if looked_at else set())


@pytest.mark.parametrize("part", ["values", "rest"])
def test_what_is_not_finite_is_refused_at_once(part: str) -> None:
    ((label, update, weight),) = updates_for(MODEL, 1)
    getattr(update, part)[0] = np.nan
    with pytest.raises(ProtocolError, match="finite"):
        taken([(label, update, weight)], QUERY)
