"""What noise promises, against the exact Gaussian mechanism."""

import math

import pytest
from scipy.optimize import brentq
from scipy.stats import norm
from typer.testing import CliRunner

from caafp_app.cli import app
from caafp_app.devices.privacy import epsilon_of, flower_noise, noise_for
from caafp_app.errors import SettingsError

pytest.importorskip("dp_accounting")


def exact(multiplier: float, delta: float) -> float:
    """Epsilon of the Gaussian mechanism (Balle and Wang, ICML 2018, theorem 8)."""

    def excess(epsilon: float) -> float:
        a, b = 1 / (2 * multiplier), epsilon * multiplier
        return float(norm.cdf(a - b) - math.exp(epsilon + norm.logcdf(-a - b)) - delta)

    return float(brentq(excess, 0, 500))


@pytest.mark.parametrize(("clip", "noise", "replies"), [(1, 2, 1), (1, 5, 35), (0.5, 20, 100)])
def test_epsilon_is_that_of_the_exact_mechanism(clip: float, noise: float, replies: int) -> None:
    multiplier = noise / (2 * clip) / math.sqrt(replies)
    assert epsilon_of(clip, noise, replies, 1e-5) == pytest.approx(
        exact(multiplier, 1e-5), rel=1e-2
    )


def test_flowers_own_arguments_promise_less_than_they_say() -> None:
    """Clip 1, sensitivity 1, epsilon 10, delta 1e-5: two clipped updates differ by up to 2."""
    assert 7.9 < epsilon_of(1.0, noise_for(1.0, 8.0, 35, 1e-5), 35, 1e-5) <= 8.0
    noise = flower_noise(1.0, 10.0, 1e-5)
    assert epsilon_of(1.0, noise, 1, 1e-5) > 20


@pytest.mark.parametrize(
    "wrong", [(0, 1, 1, 0.1), (1, 0, 1, 0.1), (1, 1, 0, 0.1), (1, 1, 1, 0), (1, 1, 1, 1)]
)
def test_impossible_numbers_are_refused(wrong: tuple[float, float, int, float]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        epsilon_of(*wrong)


def test_the_command_says_epsilon_and_the_mods_arguments() -> None:
    told = CliRunner().invoke(app, ["privacy", "--replies", "1", "--noise", "2"])
    assert told.exit_code == 0
    assert f"epsilon {epsilon_of(1, 2, 1, 1e-5):.4g} at delta 1e-05" in told.output
    sensitivity = float(told.output.split("sensitivity=")[1].split(",")[0])
    assert flower_noise(sensitivity, 1.0, 1e-5) == pytest.approx(2, rel=1e-5)
    both = CliRunner().invoke(app, ["privacy", "--replies", "1", "--noise", "2", "--epsilon", "1"])
    assert both.exit_code == 2
