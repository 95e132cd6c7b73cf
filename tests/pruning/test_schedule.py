"""The sparsity schedule and the plan of rounds."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.errors import SettingsError
from caafp_app.pruning.schedule import SCHEDULES, Phase, build_plan, target_sparsity


def updates(plan):
    return [entry.round for entry in plan if entry.mask_update]


def test_the_papers_plan_prunes_in_its_rounds():
    plan = build_plan(15, 15, 20, 5, 0.0, 0.7, "one-shot")
    assert [entry.round for entry in plan] == list(range(1, 51))
    assert updates(plan) == [30, 35, 40, 45]
    assert [plan[i].phase for i in (0, 14, 15, 29, 30, 49)] == [
        Phase.WARM_UP,
        Phase.WARM_UP,
        Phase.CLUSTER_WARM_UP,
        Phase.CLUSTER_WARM_UP,
        Phase.PRUNE,
        Phase.PRUNE,
    ]
    assert [entry.sparsity for entry in plan] == [0.0] * 29 + [0.7] * 21
    assert [entry.round for entry in plan if entry.gradients] == [35, 40, 45]
    assert [entry.round for entry in plan if entry.statistics] == list(range(26, 46))


def test_without_cluster_warm_up_masks_wait_for_a_round_in_clusters():
    plan = build_plan(4, 0, 6, 3, 0.0, 0.5, "linear")
    assert updates(plan) == [5, 8]
    assert [entry.round for entry in plan if entry.statistics] == [5, 6, 7, 8]
    assert [entry.round for entry in plan if entry.gradients] == [8]


@pytest.mark.parametrize(("prune", "final"), [(0, 0.7), (5, 0.0)])
def test_nothing_to_prune_is_a_plan_without_updates(prune, final):
    plan = build_plan(2, 2, prune, 5, 0.0, final, "cubic")
    assert len(plan) == 4 + prune
    for entry in plan:
        seen = (entry.mask_update, entry.gradients, entry.statistics, entry.sparsity)
        assert seen == (False, False, False, 0.0)


@settings(deadline=None, max_examples=100)
@given(
    rounds=st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 15)).filter(
        lambda rounds: sum(rounds[1:]) > 1
    ),
    every=st.integers(1, 7),
    levels=st.tuples(st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([0.5, 0.7, 0.95])),
    kind=st.sampled_from(SCHEDULES.builtin),
)
def test_laws_of_a_plan(rounds, every, levels, kind):
    warmup, cluster, prune = rounds
    initial, final = levels
    plan = build_plan(warmup, cluster, prune, every, initial, final, kind)
    assert [entry.round for entry in plan] == list(range(1, sum(rounds) + 1))
    at = updates(plan)
    assert at
    assert warmup < at[0]
    assert at[-1] < len(plan)
    assert all(b - a == every for a, b in pairwise(at))
    assert at[-1] + every >= len(plan)
    levels_after = [entry.sparsity for entry in plan]
    assert levels_after == sorted(levels_after)
    assert levels_after[-1] == plan[at[-1] - 1].sparsity == final
    before = initial
    for entry in plan:
        if not entry.mask_update:
            assert entry.sparsity == before
        assert entry.gradients == (entry.mask_update and before > 0)
        in_window = any(u - every < entry.round <= u for u in at)
        assert entry.statistics == (in_window and entry.round > warmup)
        before = entry.sparsity


@settings(deadline=None, max_examples=100)
@given(
    steps=st.integers(1, 40),
    levels=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)).map(sorted),
    kind=st.sampled_from(SCHEDULES.builtin),
)
def test_targets_are_monotone_and_hit_both_ends(steps, levels, kind):
    initial, final = levels
    targets = [target_sparsity(i, steps, initial, final, kind) for i in range(steps + 1)]
    assert targets == sorted(targets)
    assert (targets[0], targets[-1]) == (initial, final)
    if kind == "one-shot":
        assert set(targets[1:]) == {final}


def test_linear_and_cubic_values():
    assert target_sparsity(1, 4, 0.2, 0.6, "linear") == pytest.approx(0.3)
    assert target_sparsity(2, 4, 0.2, 0.6, "cubic") == pytest.approx(0.6 - 0.4 / 8)


@pytest.mark.parametrize(
    "arguments",
    [
        (-1, 1, 1, 1, 0.0, 0.5, "cubic"),
        (0, 0, 0, 1, 0.0, 0.5, "cubic"),
        (1, 1, 1, 0, 0.0, 0.5, "cubic"),
        (1, 1, 1, 1, 0.0, 1.0, "cubic"),
        (1, 1, 1, 1, 0.6, 0.5, "cubic"),
        (1, 1, 1, 1, -0.1, 0.5, "cubic"),
        (1, 1, 1, 1, 0.0, float("nan"), "cubic"),
        (1, 1, 1, 1, 0.0, 0.5, "cosine"),
        (3, 0, 1, 1, 0.0, 0.5, "cubic"),
        (0, 0, 1, 1, 0.5, 0.5, "cubic"),
    ],
)
def test_impossible_plans_are_refused(arguments):
    with pytest.raises(SettingsError, match="expected"):
        build_plan(*arguments)


@pytest.mark.parametrize(("step", "steps"), [(-1, 3), (4, 3), (0, 0)])
def test_steps_outside_the_schedule_are_refused(step, steps):
    with pytest.raises(SettingsError, match="step"):
        target_sparsity(step, steps, 0.0, 0.5, "linear")
