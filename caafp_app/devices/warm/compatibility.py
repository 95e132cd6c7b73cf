"""Whether the installed Flower still has what a warm device builds on."""

import importlib
import inspect
import os
import time
from collections.abc import Callable
from typing import Any

_RUN = "flwr.supernode.runtime.run_clientapp"
_NEEDED: dict[str, tuple[str, ...]] = {
    "flwr.supercore.superexec.run_superexec:run_superexec": (
        "runtime_api_address",
        "insecure",
        "root_certificates_path",
        "superexec_auth_secret",
    ),
    "flwr.supercore.superexec.run_superexec:get_executor": ("executor_type",),
    "flwr.supercore.superexec.executor:SubprocessExecutor.launch": ("spec",),
    "flwr.supercore.superexec.executor:LaunchResult.accepted": (),
    "flwr.supercore.constant:TaskType.CLIENT_APP": (),
    f"{_RUN}:run_clientapp": (
        "runtime_api_address",
        "token",
        "insecure",
        "certificates",
        "parent_pid",
        "runtime_dependency_install",
    ),
    f"{_RUN}:pull_task_input": ("client",),
    f"{_RUN}:push_message": ("client", "message", "context"),
    f"{_RUN}:push_task_output": ("client", "context", "sub_status", "details"),
    "flwr.supercore.exit.exit_handler:registered_exit_handlers": (),
    "flwr.supernode.cli:flower_supernode": (),
}
"""Names, and the parameters that are used of those that are functions."""


def why_not_warm() -> str:
    """Return why this Flower, or this system, cannot fork tasks; empty where it can."""
    if not hasattr(os, "fork"):
        return "this operating system has no fork"
    for place, parameters in _NEEDED.items():
        try:
            found = _resolve(place)
        except (ImportError, AttributeError) as error:
            return f"this version of Flower has no {place} ({error})"
        if parameters and (missing := set(parameters) - _parameters(found)):
            return f"{place} of this version of Flower takes no {', '.join(sorted(missing))}"
    return ""


def polls_can_be_quick() -> bool:
    """Tell whether the SuperNode's loop sleeps by a module's own ``time``, as `pace` expects."""
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    return getattr(loop, "time", None) is time


def messages_can_be_dropped() -> bool:
    """Tell whether the SuperNode's loop receives messages as `stopped` expects."""
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    found = getattr(loop, "_pull_and_store_message", None)
    return found is not None and {"pull_object", "confirm_message_received"} <= _parameters(found)


def _resolve(place: str) -> Any:
    module, _, path = place.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)
