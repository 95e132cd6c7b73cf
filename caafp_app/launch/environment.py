"""The environment of every process that a run starts.

What a terminal or a proxy left in this process's environment must not decide how a run goes.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from caafp_app.errors import RunError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that are never reached through a proxy."""

_CONNECT_SECONDS = 5.0
_RAY_SECONDS = 30.0


def flower_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment, or `environment`, made fit for Flower, Ray and our own."""
    mine = dict(os.environ if environment is None else environment)
    scripts = str(Path(sys.executable).parent)
    # Each library reads another spelling. gRPC prefers its own to all others.
    exceptions = _without_proxy(mine)
    spellings = ["no_proxy", "NO_PROXY", *(["no_grpc_proxy"] if "no_grpc_proxy" in mine else [])]
    return (
        mine
        | dict.fromkeys(spellings, exceptions)
        | {
            # The SuperLink starts its helpers by name.
            "PATH": scripts + os.pathsep + mine.get("PATH", ""),
            "PYTHONUNBUFFERED": "1",
            # Flower prints emoji. In a terminal of another encoding that would end the process.
            "PYTHONUTF8": "1",
            "PYTHONIOENCODING": "utf-8",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_TELEMETRY_ENABLED": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DEDUP_LOGS": "0",
            # Ray's own advice about a default that will change.
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }
    )


def _without_proxy(environment: Mapping[str, str]) -> str:
    found = [
        host.strip()
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy")
        for host in environment.get(name, "").split(",")
    ]
    return ",".join(dict.fromkeys(host for host in (*found, *LOOPBACK) if host))


def ray_in_words(environment: Mapping[str, str]) -> str:
    """Say which Ray a simulation uses, for a message."""
    address = environment.get("RAY_ADDRESS", "")
    return f"the Ray cluster at {address} (RAY_ADDRESS)" if address else "a Ray of its own"


def check_system(platform: str = sys.platform) -> None:
    """Refuse Windows by RunError: processes are found and ended by what POSIX has."""
    if platform == "win32":
        raise RunError(
            "expected Linux, or macOS (not tested), found Windows: a run starts some twenty "
            "processes, and could not end them here; use WSL (docs/installation.md)"
        )


def check_ray(environment: Mapping[str, str], seconds: float = _RAY_SECONDS) -> None:
    """Ask the Ray cluster of ``RAY_ADDRESS`` whether it is there; RunError if nobody answers."""
    address = environment.get("RAY_ADDRESS", "")
    if address in ("", "local"):
        return
    reason = _unreachable(address) or _silent(address, environment, seconds)
    if reason:
        raise RunError(
            f"RAY_ADDRESS={address}: expected a Ray cluster there, found none ({reason}); start it "
            "(`ray start --head`), or unset RAY_ADDRESS and the simulation starts its own"
        )


def _unreachable(address: str) -> str:
    """Say why there is no connection to ``host:port``; empty if there is one."""
    if address == "auto":
        return ""
    try:
        target = urlsplit(address if "://" in address else f"//{address}")
        if target.hostname is None or target.port is None:
            return "an address is host:port, auto or local"
        socket.create_connection((target.hostname, target.port), _CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _silent(address: str, environment: Mapping[str, str], seconds: float) -> str:
    """Say why whoever listens there is no Ray cluster; empty if it is one."""
    if address.startswith("ray://"):
        return ""  # the client's server speaks another protocol; a connection is all we ask
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {seconds:.0f} s"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return (lines or ["no reason given"])[-1][:300] if done.returncode else ""
