import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caafp_app.runs.ledger import Ledger
from caafp_app.runs.records import ClusterReport, RunReport
from caafp_app.runs.summary import build_summary, spread

SETTINGS = {"strategy": "caafp", "dataset": "synthetic", "seed": 7, "sparsity": 0.7}


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=40), gaps=st.integers(0, 5))
@settings(deadline=None, max_examples=50)
def test_spread_is_numpy_over_the_known(values: list[float], gaps: int) -> None:
    found = spread([*values, *[None, float("nan")][:gaps]])
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["std"] == pytest.approx(np.std(values), abs=1e-12)
    assert found["min"] == min(values)
    worst = sorted(values)[: int(np.ceil(len(values) / 10))]
    assert found["worst_tenth"] == pytest.approx(np.mean(worst))
    assert found["clients"] == len(values)


def test_a_summary_has_the_means_of_its_clients(report: RunReport) -> None:
    summary = build_summary(report, settings=SETTINGS, rounds=50)
    assert (summary["strategy"], summary["dataset"], summary["seed"]) == ("caafp", "synthetic", 7)
    assert (summary["rounds"], summary["clients"], summary["clusters"]) == (50, 5, [2, 3])
    cluster, personal = summary["accuracy"]["cluster"], summary["accuracy"]["personal"]
    assert cluster["mean"] == pytest.approx(np.mean([0.5, 1.0, 0.875]))
    assert personal["std"] == pytest.approx(np.std([0.75, 1.0, 0.875]))
    assert (cluster["min"], personal["min"], personal["clients"]) == (0.5, 0.75, 3)
    assert summary["accuracy"]["split"] == "test"
    assert summary["sparsity"]["personal_min"] == 0.7
    assert summary["sparsity"]["cluster_mean"] == pytest.approx((0.7 + 0.8) / 2)
    assert summary["bytes"]["total"] == summary["bytes"]["down"] + summary["bytes"]["up"] > 0
    assert summary["bytes"]["formula_total"] == 1000 * 4 * 0.5 * 2
    assert summary["seconds"] == {"total": 130.0, "rounds": 121.0, "startup": 9.0}
    assert summary["finetune_epochs"] is None


def test_empty_clusters_do_not_count_and_nothing_divides_by_zero() -> None:
    empty = ClusterReport(members=(), examples=0, density=1.0)
    full = ClusterReport(members=("a",), examples=3, density=0.25)
    seconds = {"total": 1.0, "rounds": 1.0, "startup": 0.0}
    run = RunReport(clients=(), clusters={1: full, 0: empty}, ledger=Ledger(), seconds=seconds)
    summary = build_summary(run, settings=SETTINGS, rounds=0)
    assert summary["clusters"] == [0, 1]
    assert summary["sparsity"]["cluster_mean"] == 0.75
    assert summary["sparsity"]["personal_min"] is None
    assert summary["accuracy"]["cluster"]["mean"] is None
    none = RunReport(clients=(), clusters={}, ledger=Ledger(), seconds=seconds)
    assert build_summary(none, settings=SETTINGS, rounds=0)["sparsity"]["cluster_mean"] is None
    json.dumps(summary, allow_nan=False)
