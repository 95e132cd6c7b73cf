"""What noise on a device's replies promises, computed by Google's `dp-accounting`.

The promise is *local* differential privacy: it holds against the server itself. Each reply is
clipped to a norm C and gets Gaussian noise of standard deviation s at each value. Two clipped
updates differ by at most 2 C, so the noise multiplier is ``s / (2 C)``. n replies of a device are
together exactly one Gaussian mechanism of the multiplier ``s / (2 C sqrt(n))`` (Dong, Roth, Su,
"Gaussian Differential Privacy", 2022, corollary 3.3). That a server samples clients promises
nothing more: it knows whom it asks.
"""

import math
from collections.abc import Callable

from caafp_app.errors import SettingsError


def epsilon_of(clip: float, noise: float, replies: int, delta: float) -> float:
    """Return the epsilon that a device has spent after its replies.

    C is `clip`, the largest norm of an update; s is `noise`, the standard deviation at each value.
    `replies` counts the training replies of this device in all runs. Raises SettingsError if a
    number is out of range, or `dp-accounting` is not installed.
    """
    _check(replies, delta, clip=clip, noise=noise)
    exact = _accounting("get_epsilon_gaussian")
    return float(exact(noise / (2 * clip * math.sqrt(replies)), delta))


def noise_for(clip: float, epsilon: float, replies: int, delta: float) -> float:
    """Return the noise with which `epsilon_of` is `epsilon`; raises what that does."""
    _check(replies, delta, clip=clip, epsilon=epsilon)
    exact = _accounting("get_sigma_gaussian")
    return float(2 * clip * math.sqrt(replies) * exact(epsilon, delta))


def flower_noise(sensitivity: float, epsilon: float, delta: float) -> float:
    """Return the standard deviation that Flower's ``LocalDpMod`` uses for its arguments."""
    return sensitivity * math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def _accounting(name: str) -> Callable[[float, float], float]:
    try:
        import dp_accounting

        found: Callable[[float, float], float] = getattr(dp_accounting, name)
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            "expected the package dp-accounting, 0.6 or newer, found none: pip install "
            '"caafp-app[privacy]"'
        ) from error
    return found


def _check(replies: int, delta: float, **positive: float) -> None:
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise SettingsError(f"{name}: expected a number above 0, found {value}")
    if not 1 <= replies <= 1_000_000:
        raise SettingsError(f"replies: expected a whole number from 1 to 1000000, found {replies}")
    if not 0 < delta < 1:
        raise SettingsError(f"delta: expected a number between 0 and 1, found {delta}")
