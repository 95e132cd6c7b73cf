"""Cutting a recording into windows: the same for published sets and for a device's own."""

import numpy as np

from caafp_app.datasets.base import IntArray


def window_rows(samples: int, time: int, stride: int) -> IntArray:
    """Return which samples make up each window of ``time`` samples, one every ``stride``.

    int64 ``[n, time]``, row numbers: ``n = 1 + (samples - time) // stride``, or 0 where the
    recording is shorter than a window. What is left at the end is dropped.
    """
    starts = np.arange(0, samples - time + 1, stride)
    return starts[:, None] + np.arange(time)
