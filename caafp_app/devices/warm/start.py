"""What ``caafp device`` starts: Flower's SuperNode in this process, the executor beside it."""

import argparse
import atexit
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from caafp_app.devices.warm.compatibility import why_not_warm
from caafp_app.devices.warm.supernode import forget_stopped_messages, quicken
from caafp_app.errors import SettingsError

SOON = 60.0
"""Seconds: an executor that ends sooner than this would end again."""
_logger = logging.getLogger("flwr")


def start_device(arguments: Sequence[str], *, cold: bool = False, memory_mb: float = 0.0) -> None:
    """Be a SuperNode until it ends; `arguments` are those of ``flower-supernode``.

    A task may take `memory_mb` MB on top of what it shares, with 0 what is free. `cold` starts a
    process for each message, as Flower does.
    """
    from flwr.supernode.cli import flower_supernode

    chosen = _options(arguments)
    if chosen.isolation:
        raise SettingsError(
            "expected no --isolation: caafp device decides it; use --cold for a process for each "
            "message, or flower-supernode for anything else"
        )
    key: Path = chosen.auth_supernode_private_key
    if key.is_file() and key.stat().st_mode & 0o077:
        _logger.warning("%s: others can read this key and play this device: chmod 600", key)
    why = "--cold" if cold else why_not_warm()
    if not why and chosen.allow_runtime_dependency_installation:
        why = "--allow-runtime-dependency-installation needs a process for each message"
    sys.argv = ["flower-supernode", *arguments]
    if why:
        _logger.info("cold: a Python process for each message (%s)", why)
    else:
        sys.argv += ["--isolation", "process"]
        threading.Thread(
            target=_keep_executor, args=(_runtime(chosen), memory_mb), daemon=True
        ).start()
    quicken()
    forget_stopped_messages()
    flower_supernode()


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the few options that concern the executor; the rest is the SuperNode's to check."""
    from flwr.supercore.constant import SUPERNODE_UVICORN_DEFAULT_PORT, UVICORN_DEFAULT_HOST

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--isolation", default="")
    parser.add_argument("--host", default=UVICORN_DEFAULT_HOST)
    parser.add_argument("--port", default=str(SUPERNODE_UVICORN_DEFAULT_PORT))
    parser.add_argument("--ssl-ca-certfile")
    parser.add_argument("--superexec-auth-secret-file")
    parser.add_argument("--auth-supernode-private-key", type=Path, default=Path())
    parser.add_argument("--allow-runtime-dependency-installation", action="store_true")
    return parser.parse_known_args(arguments)[0]


def _runtime(chosen: argparse.Namespace) -> list[str]:
    """Return the options of a SuperExec that serves where this SuperNode has its tasks."""
    from flwr.supercore.address import resolve_bind_address

    host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
    options = ["--runtime-api-address", resolve_bind_address(f"{host}:{chosen.port}")]
    ca_file, secret = chosen.ssl_ca_certfile, chosen.superexec_auth_secret_file
    options += ["--root-certificates", ca_file] if ca_file else ["--insecure"]
    return [*options, "--superexec-auth-secret-file", secret] if secret else options


def _keep_executor(runtime: list[str], memory_mb: float) -> None:
    """Keep an executor running: anew when it ended after a while, else Flower's own."""
    command = [sys.executable, "-m", "caafp_app.devices.warm.process", *runtime]
    if memory_mb:
        command += ["--memory", str(memory_mb)]
    leaving, running = threading.Event(), list[subprocess.Popen[bytes]]()

    def leave() -> None:
        leaving.set()  # first: an executor that ends now has not failed
        for process in running:
            process.terminate()

    atexit.register(leave)
    while True:
        began = time.monotonic()
        running[:] = [subprocess.Popen(command)]
        code = running[0].wait()
        if leaving.is_set():
            return
        if time.monotonic() - began > SOON:
            _logger.warning("the executor ended with status %d and is started again", code)
            continue
        _logger.warning(
            "the executor ended at once, with status %d: cold from here on, a Python process for "
            "each message",
            code,
        )
        own = ["flower-superexec", *runtime, "--parent-pid", str(os.getpid())]
        subprocess.Popen(own)
        return
