import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.datasets.windowing import window_rows


@given(st.integers(0, 300), st.integers(1, 60), st.integers(1, 80))
def test_windows_are_whole_in_order_and_as_many_as_fit(
    samples: int, time: int, stride: int
) -> None:
    rows = window_rows(samples, time, stride)
    expected = [
        list(range(start, start + time))
        for start in range(0, samples, stride)
        if start + time <= samples
    ]
    assert rows.shape == (len(expected), time)
    assert np.array_equal(rows, np.array(expected).reshape(-1, time))
