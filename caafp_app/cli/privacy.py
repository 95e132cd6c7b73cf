"""``caafp privacy``: what noise on a device's updates promises, or how much a promise needs."""

from typing import Annotated

import typer

from caafp_app.cli.ending import ending
from caafp_app.cli.options import option


def privacy(
    replies: Annotated[int, option("Training replies of one device, in all runs.")],
    clip: Annotated[float, option("Largest norm of an update.", True)] = 1.0,
    noise: Annotated[float, option("Standard deviation at each value.")] = 0.0,
    epsilon: Annotated[float, option("In place of --noise: the promise.")] = 0.0,
    delta: Annotated[float, option("The promise fails with this probability.", True)] = 1e-5,
) -> None:
    """Compute what a device's noise promises. Needs the extra `privacy`.

    Say --noise to learn epsilon, or --epsilon to learn the noise. docs/privacy.md says how to add
    the noise and what the promise leaves out.

    [bold]caafp privacy --replies 35 --noise 5[/]
    """
    from caafp_app.devices.privacy import epsilon_of, flower_noise, noise_for
    from caafp_app.errors import SettingsError

    with ending():
        if bool(noise) == bool(epsilon):
            raise SettingsError("expected either --noise or --epsilon, found both or neither")
        deviation = noise or noise_for(clip, epsilon, replies, delta)
        spent = epsilon_of(clip, deviation, replies, delta)
    typer.echo(
        f"clip {clip:g}, noise {deviation:.4g} at each value, {replies} replies: "
        f"epsilon {spent:.4g} at delta {delta:g}"
    )
    # Flower's formula has three arguments for one deviation.
    sensitivity = deviation / flower_noise(1.0, 1.0, 1e-5)
    typer.echo(
        f"for LocalDpMod: clipping_norm={clip:g}, and sensitivity={sensitivity:.6g}, epsilon=1.0, "
        "delta=1e-5"
    )
