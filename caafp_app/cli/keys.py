"""``caafp keys``: certificates for the server, key pairs for the devices."""

from pathlib import Path
from typing import Annotated

import typer

from caafp_app.cli.ending import ending
from caafp_app.cli.options import option

keys = typer.Typer(
    no_args_is_help=True,
    help="Make certificates and keys: who the server is, and who a device is.",
)

_Folder = Annotated[
    Path, typer.Argument(help="Where the files go; made if it is not there.", show_default=False)
]


@keys.command("server")
def server_keys(
    folder: _Folder,
    name: Annotated[
        list[str],
        option("Host name or IP address by which devices reach the server; may be repeated."),
    ],
    days: Annotated[int, option("Life of the certificate.", True, min=1, max=3650)] = 825,
) -> None:
    """Make the server's certificate, and an authority that signs it.

    ca.pem goes to every device, server.pem and server.key to the server. ca.key signs the next
    certificate: keep it elsewhere. To renew, move server.* away and give the command again.
    """
    from caafp_app.devices.keys import make_server_keys

    with ending():
        _tell(make_server_keys(folder.expanduser(), name, days=days))


@keys.command("device")
def device_keys(
    folder: _Folder,
    name: Annotated[str, typer.Argument(help="Of the device, as in its label.")],
) -> None:
    """Make a device's key pair. Do it on the device: NAME.key must not leave it.

    NAME.pub goes to the operator, who lets the device in by `flwr supernode register`.
    """
    from caafp_app.devices.keys import make_device_keys

    with ending():
        _tell(make_device_keys(folder.expanduser(), name))


def _tell(files: list[Path]) -> None:
    for file in files:
        typer.echo(f"wrote {file}")
