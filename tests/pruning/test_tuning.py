"""How sparse a model may become: the search for it, and what it goes by."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.pruning.schedule import build_plan
from caafp_app.pruning.tuning import (
    SPARSEST,
    TURNS,
    Figure,
    Gain,
    Search,
    at_most,
    entropy_sparsity,
)

Gains = st.builds(Gain, st.floats(-0.1, 0.1), st.floats(0, 0.02), st.integers(2, 9))
TOLERANCE = 0.005


def path(losses: list[float], densest: float = 1.0) -> list[float]:
    """The sparsities that follow from what each model loses; without noise; the last is last."""
    search = Search.begin(densest)
    found = []
    for number, loss in enumerate(losses, 1):
        gain = Gain(-loss, 0.0, 5)
        search = search.next(gain, TOLERANCE, last=number == len(losses))
        found.append(round(1 - search.density, 3))
    return found


@given(gains=st.lists(Gains, min_size=1, max_size=25), densest=st.floats(0.05, 1.0))
def test_a_search_stays_in_its_bounds_and_settles(gains: list[Gain], densest: float) -> None:
    search = Search.begin(densest)
    densities = [densest]
    for number, gain in enumerate(gains, 1):
        search = search.next(gain, TOLERANCE, last=number == len(gains))
        densities.append(search.density)
    assert all(1 - SPARSEST - 1e-12 <= density <= densest for density in densities)
    moves = [after - before for before, after in pairwise(densities) if after != before]
    assert sum(b > 0 and (i == 0 or moves[i - 1] < 0) for i, b in enumerate(moves)) <= TURNS
    if gains[-1].mean < -TOLERANCE - gains[-1].error:
        assert search.density >= search.good


@given(before=st.lists(Gains, max_size=8), one=Gains, better=st.floats(0, 0.1))
def test_a_better_figure_never_makes_a_model_denser(
    before: list[Gain], one: Gain, better: float
) -> None:
    search = Search.begin(1.0)
    for gain in before:
        search = search.next(gain, TOLERANCE)
    other = Gain(one.mean + better, one.error, one.clients)
    for last in (False, True):
        worse = search.next(one, TOLERANCE, last=last)
        assert search.next(other, TOLERANCE, last=last).density <= worse.density


def test_recorded_paths() -> None:
    # Nothing is lost: steps down to the bound, none at the last decision.
    assert path([0, 0, 0, 0]) == [0.5, 0.75, 0.875, 0.875]
    assert path([0] * 8)[-1] == SPARSEST
    # The third model is too sparse: half way back, found good, half way down, found good.
    assert path([0, 0, 0, 0.03, 0, 0, 0, 0]) == [
        *(0.5, 0.75, 0.875, 0.823, 0.851, 0.851, 0.851, 0.851),
    ]
    # Too sparse twice: then it stays at what was good, whatever comes.
    found = path([0, 0.1, 0, 0.1, 0, 0, 0, 0])
    assert found == [0.5, 0.293, 0.405, 0.293, 0.293, 0.293, 0.293, 0.293]
    # What the last decision finds too sparse is taken back to what was good.
    assert path([0, 0, 0, 0.02]) == [0.5, 0.75, 0.875, 0.75]
    # A model that loses whatever goes ends dense; one that starts sparse, as it started.
    assert path([0, 0.1, 0.1, 0.1, 0.1])[-1] == 0.0
    assert path([0, 0.1, 0.1, 0.1], densest=0.3)[-1] == 0.7


def test_a_loss_within_the_error_changes_nothing() -> None:
    small, sure = Gain(-0.01, 0.01, 4), Gain(-0.01, 0.002, 40)
    search = Search.begin(1.0).next(small, TOLERANCE)
    assert search.density == 0.5
    assert search.next(small, TOLERANCE) == search.next(small, TOLERANCE, last=True) == search
    assert search.next(Gain(0.0, 0.01, 4), TOLERANCE).density == pytest.approx(0.25)
    assert search.next(sure, TOLERANCE).density > 0.5


def test_each_client_is_compared_with_itself() -> None:
    before = {"a": 0.9, "b": 0.5, "c": 0.7}
    gain = Figure.called("held-accuracy").gain(before, {"a": 0.88, "b": 0.5, "d": 0.1})
    assert (gain.mean, gain.error, gain.clients) == pytest.approx((-0.01, 0.01, 2))
    percent = Figure.called("acc").gain({"a": 90.0}, {"a": 88.0})
    assert percent.mean == pytest.approx(-0.02)
    loss = Figure.called("eval_loss").gain({"a": 2.0, "b": 2.0}, {"a": 2.1, "b": 1.9})
    assert loss.mean == pytest.approx(0.0)
    # One client that claims anything moves the mean by its share of ten points.
    ten = {str(k): 0.9 for k in range(10)}
    liar = Figure.called("accuracy").gain(ten, {**ten, "0": -1e9})
    assert liar.mean == pytest.approx(-0.01)
    assert Figure.called("accuracy").gain(before, {"d": 1.0}) is None


def test_the_plan_of_a_search_is_the_sparsest_it_could_become() -> None:
    plan = at_most(build_plan(15, 15, 20, 5, 0.0, SPARSEST, "one-shot"), 1.0)
    reached = [(step.round, round(step.sparsity, 3)) for step in plan if step.mask_update]
    assert reached == [(30, 0.5), (35, 0.75), (40, 0.875), (45, 0.875)]
    assert plan[0].sparsity == 0.0


def test_the_authors_entropy_rule() -> None:
    assert entropy_sparsity(0.0, 0) == 0.7
    assert entropy_sparsity(1.0, 5) == 0.5
    assert entropy_sparsity(0.5, 5) == pytest.approx(0.55)
    assert entropy_sparsity(0.2, 100) == pytest.approx(0.56)


@pytest.mark.parametrize("name", ["accuracy", "loss"])
def test_a_liar_does_not_change_what_the_others_changes_are_measured_by(name: str) -> None:
    """It made them vanish, so that a mask was pruned to the bound whatever it cost."""
    before, after = dict.fromkeys("abcdefg", 0.9), dict.fromkeys("abcdefg", 0.8)
    if name == "loss":
        before, after = after, before
    honest = Figure.called(name).gain(before, after)
    liar = Figure.called(name).gain({**before, "liar": 1e300}, {**after, "liar": 1e300})
    assert liar.mean == pytest.approx(honest.mean * 7 / 8)
