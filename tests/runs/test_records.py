import json

import numpy as np
import pytest

from caafp_app.runs.files import plain
from caafp_app.runs.memory import current_memory_mb, peak_memory_mb
from caafp_app.runs.records import RoundRecord


def test_a_round_is_written_as_plain_json() -> None:
    record = RoundRecord(
        round=3,
        phase="prune",
        seconds=1.5,
        asked=4,
        answered=2,
        refused=1,
        missing=("d",),
        accuracy=float("nan"),
        loss=np.float32(0.5),  # type: ignore[arg-type]
        density={0: 0.3, 1: np.float64(0.25)},
        bytes_down=10,
        bytes_up=7,
        bytes_by_kind={"down": {"values": 10}, "up": {"values": 7}},
        reasons={"NaN": 1},
        mask_updated=True,
        layer_density={0: {"conv": np.float32(0.5)}},  # type: ignore[dict-item]
        server_memory_mb=100.0,
    )
    found = json.loads(json.dumps(plain(vars(record)), allow_nan=False))
    assert found == {
        "round": 3,
        "phase": "prune",
        "seconds": 1.5,
        "asked": 4,
        "answered": 2,
        "refused": 1,
        "missing": ["d"],
        "accuracy": None,
        "loss": 0.5,
        "density": {"0": 0.3, "1": 0.25},
        "bytes_down": 10,
        "bytes_up": 7,
        "bytes_by_kind": {"down": {"values": 10}, "up": {"values": 7}},
        "reasons": {"NaN": 1},
        "refusals": {},
        "clipped": [],
        "opposed": [],
        "used": True,
        "mask_updated": True,
        "layer_density": {"0": {"conv": 0.5}},
        "watched": {},
        "elected": {},
        "changes": [],
        "server_memory_mb": 100.0,
        "server_memory_peak_mb": None,
    }


def test_memory_of_this_process() -> None:
    current, peak = current_memory_mb(), peak_memory_mb()
    if current is None or peak is None:
        pytest.skip("this system tells neither")
    assert 10 < current < 1.05 * peak
    ballast = np.ones(300_000_000, dtype=np.uint8)
    grown = current_memory_mb()
    assert grown is not None
    # Pages that earlier tests gave back may serve first: hence the margin.
    assert grown - current == pytest.approx(ballast.nbytes / 1e6, abs=90)
