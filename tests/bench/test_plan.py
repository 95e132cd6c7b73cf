import pytest

from caafp_app.bench.plan import BenchPlan
from caafp_app.errors import SettingsError


def test_only_the_named_cases_in_the_files_order(plan: BenchPlan) -> None:
    assert plan.only(["caafp", "dense"]) == plan.only([]) == plan.cases
    assert [case.name for case in plan.only(["caafp"])] == ["caafp"]


def test_a_case_that_is_not_there(plan: BenchPlan) -> None:
    with pytest.raises(SettingsError, match=r"--only.*did you mean 'dense'"):
        plan.only(["dence"])
