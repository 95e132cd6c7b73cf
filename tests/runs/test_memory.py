import numpy as np
import pytest

from caafp_app.runs.memory import current_memory_mb, peak_memory_mb


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
