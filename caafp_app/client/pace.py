"""How long a round takes a device: measured, or on paper where the device is simulated."""

from collections.abc import Mapping
from typing import NamedTuple

from caafp_app.client.work import Work

COMPUTE_SECONDS, LINK_SECONDS = "compute-seconds", "link-seconds"
"""Metrics of a reply, where the run has a deadline."""


class Profile(NamedTuple):
    """A simulated device: multiplications a second in training, bytes a second on its link."""

    speed: float
    bandwidth: float


PROFILES = (Profile(1e9, 1e6), Profile(0.5e9, 0.5e6), Profile(0.25e9, 0.25e6))
"""A third of the simulated devices each: about a Pi 4, a Pi 3 and a Pi Zero 2 on three links."""

_PASSES = 3
"""A step multiplies about three times as often as a forward pass: twice more in the backward."""
_BYTES = 4


def told(work: Work, seconds: float) -> Mapping[str, float]:
    """Return the metrics that tell how long a training took; none where there is no deadline.

    A simulated device tells what its profile makes of the multiplications and the float32 bytes,
    so that a run repeated says the same. A real one tells the seconds of its training; what was on
    the link the server sees.
    """
    if not work.settings.rounds.deadline:
        return {}
    place = work.context.node_config.get("partition-id")
    if not isinstance(place, int) or "data-path" in work.context.node_config:
        return {COMPUTE_SECONDS: seconds}
    profile = PROFILES[place % len(PROFILES)]
    windows = work.how().epochs * len(work.data.train_y)
    active = sum(array.size for array in work.received.values())
    for bits in (work.mask or {}).values():
        active -= int(bits.size - bits.sum())
    return {
        COMPUTE_SECONDS: _PASSES * windows * multiplications(work) / profile.speed,
        LINK_SECONDS: 2 * _BYTES * active / profile.bandwidth,
    }


def multiplications(work: Work) -> int:
    """Return about how many multiplications a window takes: those of pruned weights count too.

    A convolution slides over the whole window; pooling before it is not known here.
    """
    length = work.data.input_shape[0]
    return sum(
        array.size * (length if array.ndim > 2 else 1)
        for array in work.received.values()
        if array.ndim > 1
    )
