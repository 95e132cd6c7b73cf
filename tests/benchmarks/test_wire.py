"""Bytes of a whole run without training."""

import math

import numpy as np
import pytest

from benchmarks.wire import entropy_bytes, run
from caafp_app.launch.presets import merged


def test_bytes_of_a_preset() -> None:
    report, by_kind = run(["smoke"])
    rows = {row["what"]: row for row in report.rows}
    ours, plain = rows["messages"], rows["Flower's FedAvg"]
    assert ours["total_mb"] == pytest.approx(ours["down_mb"] + ours["up_mb"])
    assert plain["share"] == 1.0
    assert rows["authors' formula"]["total_mb"] < ours["total_mb"] < plain["total_mb"]
    settings = merged("smoke", [])
    parameters = 32 * 64 * 16 + 64 * 6 * 5 + 64 * 64 * 5 + 32 * 5  # weights of the model
    rounds, clients = settings.rounds.total, settings.rounds.clients_per_round
    dense = 4e-6 * parameters * clients * (2 * rounds + 1)
    assert dense < plain["total_mb"] < 1.05 * dense
    # A mask is no larger than its bits, and no smaller than its entropy.
    bound, sent = rows["entropy of the masks"]["total_mb"], rows["masks"]["total_mb"]
    assert 0 < bound <= sent < 1.5 * bound
    assert ours["masks"]["messages"] > ours["masks"]["differences"] > 0
    kinds = {row["kind"]: row for row in by_kind.rows}
    assert sum(row["share"] for row in by_kind.rows) == pytest.approx(1.0)
    assert {"values", "rest", "mask", "gradient-value", "header", "envelope"} <= kinds.keys()
    assert kinds["mask"]["up_kb"] == 0
    assert kinds["gradient-value"]["down_kb"] == 0
    assert report.to_json()["kinds"] == by_kind.rows


def test_entropy_of_a_mask() -> None:
    assert entropy_bytes(0, 800) == entropy_bytes(800, 800) == 0.0
    assert entropy_bytes(400, 800) == 100.0
    # Nearly the number of bits that name one mask among all of that density.
    exact = math.log2(math.comb(800, 240)) / 8
    assert exact < entropy_bytes(240, 800) < 1.02 * exact
    assert np.isclose(entropy_bytes(240, 800), entropy_bytes(560, 800))
