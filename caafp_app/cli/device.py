"""``caafp device``: a SuperNode that has torch and the app imported before a message comes."""

from typing import Annotated

import typer

from caafp_app.cli.ending import ending
from caafp_app.cli.options import flag, option

OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}


def device(
    context: typer.Context,
    cold: Annotated[
        bool, flag("--cold", "Start a Python process for each message, as Flower.")
    ] = False,
    memory: Annotated[
        float,
        option(
            "What a task may take besides the imports that all share, in MB.",
            "what is free",
            min=0.0,
        ),
    ] = 0.0,
) -> None:
    """Take part as a device: Flower's SuperNode, with torch imported once.

    Takes all options of [bold]flower-supernode[/] besides (flower-supernode --help).

    [bold]caafp device --superlink server:8443 --root-certificates ca.pem
    --auth-supernode-private-key device.key --node-config node.toml[/]
    """
    from caafp_app.devices.warm.start import start_device

    with ending():
        start_device(context.args, cold=cold, memory_mb=memory)
