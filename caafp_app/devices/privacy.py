"""What noise on a device's replies promises, computed by Google's `dp-accounting`.

The promise is *local* differential privacy: it holds against the server itself. Each reply is
clipped to a norm C and gets Gaussian noise of standard deviation s at each value. Two clipped
updates differ by at most 2 C, so the noise multiplier is ``s / (2 C)``. All replies of the device
are composed (Dong, Roth, Su, "Gaussian Differential Privacy", 2022, corollary 3.3). That a server samples clients promises nothing more: it knows whom it asks.
"""

import math

from caafp_app.errors import SettingsError


def epsilon_of(clip: float, noise: float, replies: int, delta: float) -> float:
    """Return the epsilon that a device has spent after its replies.

    Parameters
    ----------
    clip : float
        C, the largest norm of an update, above 0.
    noise : float
        s, the standard deviation of the noise at each value, above 0.
    replies : int
        Training replies of this device in all runs together, at least 1.
    delta : float
        In (0, 1).

    Raises
    ------
    SettingsError
        A number is out of range, or `dp-accounting` is not installed.
    """
    _check(clip, noise, replies, delta)
    try:
        from dp_accounting import GaussianDpEvent
        from dp_accounting.pld import PLDAccountant
    except ImportError as error:
        raise SettingsError(
            'expected the package dp-accounting, found none: pip install "caafp-app[privacy]"'
        ) from error
    # The composition of Gaussian mechanisms is exactly one, of a multiplier smaller by the root of
    # their number; told so, the accountant takes a hundredth of the time.
    event = GaussianDpEvent(noise / (2 * clip) / math.sqrt(replies))
    return float(PLDAccountant().compose(event).get_epsilon(delta))


def noise_for(clip: float, epsilon: float, replies: int, delta: float) -> float:
    """Return the least noise with which `epsilon_of` is at most `epsilon`, to three digits.

    Raises
    ------
    SettingsError
        As `epsilon_of`.
    """
    if not 0 < epsilon < 1e4:
        raise SettingsError(f"epsilon: expected a number above 0 and below 10000, found {epsilon}")
    low, high = 0.0, clip
    while epsilon_of(clip, high, replies, delta) > epsilon:
        low, high = high, 2 * high
    while high - low > 5e-4 * high:
        middle = (low + high) / 2
        if epsilon_of(clip, middle, replies, delta) > epsilon:
            low = middle
        else:
            high = middle
    return high


def flower_noise(sensitivity: float, epsilon: float, delta: float) -> float:
    """Return the standard deviation that Flower's ``LocalDpMod`` uses for its arguments."""
    return sensitivity * math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def _check(clip: float, noise: float, replies: int, delta: float) -> None:
    for name, value in (("clip", clip), ("noise", noise)):
        if not 0 < value < math.inf:
            raise SettingsError(f"{name}: expected a number above 0, found {value}")
    if not 1 <= replies <= 1_000_000:
        raise SettingsError(f"replies: expected a whole number from 1 to 1000000, found {replies}")
    if not 0 < delta < 1:
        raise SettingsError(f"delta: expected a number between 0 and 1, found {delta}")
