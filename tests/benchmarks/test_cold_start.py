"""What a client's process imports, and that its stages are told apart."""

import pytest

from benchmarks.cold_start import STAGES, import_seconds, imported, measure

LOG = """import time: self [us] | cumulative | imported package
import time:       250 |        250 |   torch._dynamo.utils
import time:      1000 |       1250 | torch
noise | here
import time:       500 |        500 | flwr.app
"""


def test_import_times_are_summed_by_package() -> None:
    assert import_seconds(LOG) == {"torch": 0.00125, "flwr": 0.0005}
    assert {"torch", "torch._dynamo.utils", "flwr.app"} <= imported(LOG)


@pytest.mark.e2e
def test_only_training_imports_torch() -> None:
    report = measure(1, {"synthetic-windows": 10}, kinds=("describe", "mask-unknown", "train"))
    rows = {row["kind"]: row for row in report.rows}
    for row in rows.values():
        assert all(0 < row[stage] < row["total"] for stage in STAGES)
        assert row["import_seconds"]["flwr"] > 0
    assert rows["describe"]["torch"] == rows["mask-unknown"]["torch"] == "no"
    assert (rows["train"]["torch"], rows["train"]["torch._dynamo"]) == ("yes", "no")
    assert rows["train"]["nbytes"] > 50_000 > rows["describe"]["nbytes"]
    assert 1000 > rows["train"]["peak_mb"] > rows["describe"]["peak_mb"] > 30
    assert [target.met for target in report.targets] == [True, True, True]
