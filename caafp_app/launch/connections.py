"""The connections in the user's Flower configuration, checked before a run uses one."""

import os
import socket
import tomllib
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from caafp_app.errors import SettingsError

_SECONDS = 5.0
_TO_DO = "add [superlink.{name}] with an address; docs/deploy.md shows it"


def check_connection(name: str) -> None:
    """Look whether a connection is there, and whether its SuperLink's port answers.

    It is ``[superlink.NAME]`` in ``config.toml`` of ``$FLWR_HOME``, else of ``~/.flwr``. Raises
    SettingsError if there is none, its certificate is no file, or nobody answers.
    """
    path = Path(os.environ.get("FLWR_HOME") or Path.home() / ".flwr") / "config.toml"
    known = _connections(path)
    if name not in known:
        raise SettingsError(
            f"--superlink: expected one of {', '.join(known) or 'the connections'} in {path}, "
            f"found {name}; {_TO_DO.format(name=name)}"
        )
    certificate = known[name].get("root-certificates")
    if certificate and not (path.parent / str(certificate)).is_file():
        raise SettingsError(
            f"--superlink {name}: expected a file at root-certificates, found none at "
            f"{certificate}; correct it in {path}"
        )
    address = str(known[name].get("address", ""))
    if not address:
        raise SettingsError(
            f"--superlink {name}: expected an address in {path}, found none; "
            + _TO_DO.format(name=name)
        )
    if not address.startswith(":"):  # `:local:` and the like; Flower starts what they mean
        _check_answers(name, address)


def _connections(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get("superlink", {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"--superlink: expected Flower's configuration, found: {error}"
        ) from error
    return {key: table for key, table in found.items() if isinstance(table, dict)}


def _check_answers(name: str, address: str) -> None:
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname or "", parts.port or 443
        if urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
            return  # a proxy reaches it, and only Flower talks to that
        with socket.create_connection((host, port), _SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"--superlink {name}: expected a SuperLink at {address}, found: {error}; start it, or "
            "open the way to it (docs/deploy.md)"
        ) from error
